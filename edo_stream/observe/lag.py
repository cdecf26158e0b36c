"""How far the group is behind, and whether it gets on: two looks at it, compared."""

from collections.abc import Container
from enum import Enum

import msgspec
from aiokafka import TopicPartition

from edo_stream.observe.group import GroupState, Reading


class Pace(Enum):
    """What two looks at a partition tell, in the words of Burrow."""

    OK = "OK"
    """Nothing to read, or it is being read."""
    WARN = "WARN"
    """It is being read, and more comes than is read."""
    STALL = "STALL"
    """There is something to read, its worker is there, and nothing is read."""
    STOP = "STOP"
    """There is something to read, and no worker has the partition."""
    PAUSED = "PAUSED"
    """There is something to read, and an operator has paused its flow."""
    REWIND = "REWIND"
    """The group's offset has moved back."""

    @property
    def is_well(self) -> bool:
        """Whether nobody needs to act."""
        return self in {Pace.OK, Pace.WARN, Pace.PAUSED}


class PartitionLag(msgspec.Struct, frozen=True):
    """One partition of the group."""

    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int
    lag_ms: int | None
    """Age of the first record that is not processed; ``None``: not known."""
    pace: Pace


def lags(
    before: GroupState,
    now: GroupState,
    first_unread_ms: dict[TopicPartition, int | None],
    now_ms: int,
    paused: Container[TopicPartition] = (),
) -> list[PartitionLag]:
    """Judge each partition by two looks; the times are those of the first unread records.

    ``paused`` are those of flows that an operator has paused.
    """
    found = []
    for partition, reading in now.readings.items():
        lag, lag_ms = reading.lag, None
        if not lag or (partition in first_unread_ms and first_unread_ms[partition] is None):
            # What is left to read are transaction markers.
            lag, lag_ms = 0, 0
        elif (at_ms := first_unread_ms.get(partition)) is not None:
            lag_ms = max(0, now_ms - at_ms)
        was = before.readings.get(partition, reading)
        pace = pace_of(was, reading, lag, now.owner(partition) is not None)
        if partition in paused and pace in {Pace.STALL, Pace.WARN}:
            pace = Pace.PAUSED
        found.append(
            PartitionLag(
                topic=partition.topic,
                partition=partition.partition,
                committed=reading.committed,
                end=reading.end,
                lag=lag,
                lag_ms=lag_ms,
                pace=pace,
            )
        )
    return found


def pace_of(was: Reading, now: Reading, lag: int, is_owned: bool) -> Pace:
    """Compare two looks at a partition that has ``lag`` records to read."""
    before, after = was.committed or 0, now.committed or 0
    if after < before:
        return Pace.REWIND
    if not lag:
        return Pace.OK
    if not is_owned:
        return Pace.STOP
    if after == before:
        return Pace.STALL
    return Pace.WARN if now.lag > was.lag else Pace.OK
