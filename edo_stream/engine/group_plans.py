"""The plans of groups whose tasks have one table, their state, and read what tasks have written."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from edo_stream.core.state import Table
from edo_stream.core.task import InternalTopics, TaskIdentity, refusal
from edo_stream.engine.assignment import GroupPlan
from edo_stream.engine.group_topics import EARLIEST, internal_topics, state_table
from edo_stream.engine.restore import Refusal, nothing_refused
from edo_stream.engine.task import Task
from edo_stream.engine.task_spec import Decider, TaskSpec


class StateGroup(Protocol):
    """A group of this kind."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def partitions(self) -> int:
        """How many tasks it has."""

    @property
    def topics(self) -> tuple[str, ...]:
        """What its tasks read, besides operators' requests."""


def state_plan(
    group: StateGroup,
    shared: TaskSpec,
    decider: Callable[[TaskIdentity, Table, InternalTopics], Decider],
    refused: Refusal = nothing_refused,
    make_task: type[Task] = Task,
) -> GroupPlan:
    """The plan of a group; ``shared`` gives what all groups share.

    ``refused`` says with which rows a task must not go on, beyond those of a later version.
    """
    internal = internal_topics(group.name)

    def make_pipeline(partition: int, tables: Sequence[Table]) -> Decider:
        (state,) = tables
        return decider(TaskIdentity(shared.app, group.name, partition), state, internal)

    def refuse(state: Table) -> str | None:
        return refusal(state) or refused(state)

    spec = shared.of_group(group.name, dict.fromkeys((*group.topics, internal.control), EARLIEST))
    tables = [state_table(shared.app, group.name, refuse)]
    return GroupPlan(spec, group.partitions, tables, make_pipeline, make_task)


def none_left_behind(stranded: Callable[[Table], Mapping[str, int]], why: str) -> Refusal:
    """Refuse a state in which something waits for flows that are not there any more.

    ``stranded`` counts it by flow; ``why`` says so, with ``{told}`` where the counts belong.
    """

    def refuse(state: Table) -> str | None:
        if not (flows := stranded(state)):
            return None
        told = ", ".join(f"{count:,} of {flow}" for flow, count in sorted(flows.items()))
        return why.format(told=told)

    return refuse
