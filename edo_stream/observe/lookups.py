"""Events that wait for rows, read from the state's changelogs while workers go on."""

from collections.abc import Mapping
from typing import Any

from edo_stream.core.correlation.rows import EVENT, HeldEvent, decode_event, parse_event_key
from edo_stream.core.lookup.path import Seeker, decode_seeker
from edo_stream.core.lookup.rows import QUEUE, QueueRow, decode_queue, parse_queue
from edo_stream.observe.rows import read_rows
from edo_stream.observe.waits import HeldInput, Wait


class LookupRows:
    """The queues of one changelog partition; takes records in log order, rows of tables too."""

    def __init__(self) -> None:
        self._queues: dict[bytes, QueueRow] = {}
        self._events: dict[bytes, dict[bytes, HeldEvent]] = {}

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take a record; ``None`` deletes its row."""
        if key[:1] == QUEUE:
            if value is None:
                self._queues.pop(key[1:], None)
            else:
                self._queues[key[1:]] = decode_queue(value)
        elif key[:1] == EVENT:
            name, place = parse_event_key(key)
            events = self._events.setdefault(name, {})
            if value is None:
                events.pop(place, None)
            else:
                events[place] = decode_event(value)
            if not events:
                del self._events[name]

    def waits(self, group: str, partition: int) -> list[Wait]:
        """Keys that wait as of the last record taken; of lookups that are declared no more too."""
        return [self._wait(group, partition, name, queue) for name, queue in self._queues.items()]

    def _wait(self, group: str, partition: int, name: bytes, queue: QueueRow) -> Wait:
        place = parse_queue(name)
        events = [event for _, event in sorted(self._events.get(name, {}).items())]
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
