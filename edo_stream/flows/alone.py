"""The command that an event would lead to if no other of its key came: by the code of a worker.

Of a flow that debounces or batches, for people who try it out: time is only counted here.
"""

from collections.abc import Iterator, Sequence

from edo_stream.core.correlation.pipeline import JoinPipeline
from edo_stream.core.effects import Publish
from edo_stream.core.record import Batch, StoredRecord
from edo_stream.core.state import Table
from edo_stream.core.task import InternalTopics, TaskIdentity
from edo_stream.flows.correlation import JoinGroup
from edo_stream.registry.plan import (
    ACCOUNTS,
    ACCOUNTS_PARTITIONS,
    GAPS,
    GAPS_PARTITIONS,
    control_topic,
)


class _Nothing:
    """A state in which nothing rests."""

    def get(self, key: bytes) -> bytes | None:
        return None

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return [None for _ in keys]

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(())


def command_alone(flow: str, group: JoinGroup, app: str, joined: Publish) -> Publish:
    """The command, or the dead letter; ``joined`` is the event on its way to the flow's task."""
    correlation, (pipeline, published) = group.spec.correlations[flow], _fed(group, app, joined)
    if (due_ms := pipeline.next_due_ms()) is not None:
        published = [*published, *pipeline.step([], due_ms, due_ms).publish]
    ends = (correlation.target.topic, correlation.dead_letters)
    return next(one for one in published if one.topic in ends)


def waits_until_ms(group: JoinGroup, app: str, joined: Publish) -> int | None:
    """When the wait ends that an event opens, if nothing else comes; ``None``: it opens none."""
    pipeline, _ = _fed(group, app, joined)
    return pipeline.next_due_ms()


def _fed(group: JoinGroup, app: str, joined: Publish) -> tuple[JoinPipeline, Sequence[Publish]]:
    """A task that has read one event, and what it has written."""
    control = control_topic(group.name)
    internal = InternalTopics(ACCOUNTS, ACCOUNTS_PARTITIONS, GAPS, GAPS_PARTITIONS, control)
    identity = TaskIdentity(app, group.name, joined.partition)
    pipeline = JoinPipeline(identity, group.spec, group.dead_letters, Table(_Nothing()), internal)
    at_ms = joined.timestamp_ms
    record = StoredRecord(joined.topic, joined.partition, 0, at_ms, joined.key, joined.value)
    batch = Batch(joined.topic, joined.partition, [record])
    return pipeline, pipeline.step([batch], at_ms, 0).publish
