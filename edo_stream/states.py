"""States of keys as a worker serves them: flows that wait and sagas, by HTTP."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from aiokafka import TopicPartition

from edo_stream.engine.assignor import TaskAssignor
from edo_stream.engine.read_model import ReadModel, StateOf
from edo_stream.engine.state_page import add_state_page
from edo_stream.engine.task import Task
from edo_stream.engine.transport import TaskConsumer
from edo_stream.engine.worker import EdoApp
from edo_stream.flows import Flows
from edo_stream.observe.states import read_instance, read_wait
from edo_stream.registry import Registry


def state_places(flows: Flows, registry: Registry, shows_data: bool) -> dict[str, StateOf]:
    """Where the states of flows that wait, and of sagas, are, and how they are read.

    ``shows_data``: with the data of sagas' events and results.
    """
    places = {}
    for group in flows.join_groups.values():
        for name, correlation in group.spec.correlations.items():
            read = partial(read_wait, correlation, (group.name, group.partitions))
            places[name] = StateOf(group.name, group.partitions, read, dict(group.spec.upstream))
    for sagas in flows.sagas.values():
        for name in sagas.sagas:
            starts = {
                topic: registry.entries[topic].declaration.partitions
                for topic, routes in flows.starts.items()
                if any(route.trigger.flow == name for route in routes)
            }
            read = partial(read_instance, name, shows_data)
            places[name] = StateOf(sagas.name, sagas.partitions, read, starts)
    return places


def serve_states(app: EdoApp, places: Mapping[str, StateOf]) -> None:
    """Serve those that this worker owns, and say where the others are."""

    def tasks() -> Mapping[tuple[str, int], Task] | None:
        # Before the first service has run there is none.
        assignment = getattr(app, "assignment", None)
        return assignment.tasks if assignment is not None and assignment.is_assigned else None

    def owner_of(partition: TopicPartition) -> str | None:
        assignor: Any = app.assignor
        assert isinstance(assignor, TaskAssignor)
        return assignor.owner_of(partition)

    def looking() -> TaskConsumer:
        assert isinstance(app.consumer, TaskConsumer)
        return app.consumer

    add_state_page(app, ReadModel(places, tasks, owner_of, looking, lambda: app.should_stop))
