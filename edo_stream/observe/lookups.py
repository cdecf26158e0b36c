"""Events that wait for rows, read from the state's changelogs while workers go on."""

from collections.abc import Mapping
from typing import Any

from edo_stream.core.correlation.rows import HeldEvent
from edo_stream.core.lookup.path import Seeker, decode_seeker
from edo_stream.core.lookup.rows import QUEUE, QueueRow, decode_queue, parse_queue
from edo_stream.observe.held_rows import HeldRows
from edo_stream.observe.rows import read_rows
from edo_stream.observe.waits import HeldInput, Wait


class LookupRows(HeldRows[QueueRow, HeldEvent]):
    """The queues of one changelog partition; rows of tables are passed over."""

    def __init__(self) -> None:
        super().__init__(QUEUE, decode_queue, lambda event: event)

    def waits(self, group: str, partition: int) -> list[Wait]:
        """Keys that wait as of the last record taken; of lookups that are declared no more too."""
        return [self._wait(group, partition, name, queue) for name, queue in self.rows.items()]

    def _wait(self, group: str, partition: int, name: bytes, queue: QueueRow) -> Wait:
        place = parse_queue(name)
        events = [event for _, event in sorted(self.events(name).items())]
        return Wait(
            flow=place.flow,
            partition=partition,
            key=place.key,
            group=group,
            state="open",
            since_ms=queue.since_ms,
            until_ms=queue.due_ms,
            missing=(f"lookup.{place.lookup}",),
            count=queue.held,
            expected=None,
            held=tuple(_held(event) for event in events),
            events=queue.held,
            size_bytes=sum(event.size_bytes for event in events),
            firings=0,
            ended="",
            ended_ms=0,
            completed_by="",
        )


def _held(event: HeldEvent) -> HeldInput:
    seeker = decode_seeker(event.payload)
    assert isinstance(seeker, Seeker), "it was decoded before it was held"
    position = f"{seeker.topic}/{seeker.partition}/{seeker.offset}"
    return HeldInput("event", seeker.id, position, seeker.time_ms or seeker.timestamp)


async def read_lookups(changelogs: Mapping[str, str], broker: Mapping[str, Any]) -> list[Wait]:
    """Read what waits for rows now; ``changelogs`` are the state's topics, by group.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    rows = await read_rows(changelogs, broker, LookupRows)
    found = [
        wait
        for (group, partition), of_partition in rows.items()
        for wait in of_partition.waits(group, partition)
    ]
    return sorted(found, key=lambda wait: (wait.flow, wait.since_ms or 0, wait.key))
