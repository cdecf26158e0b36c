"""A task: one partition number of one co-partition group, and what it remembers of itself."""

from dataclasses import dataclass, field

import msgspec

from edo_stream.core.effects import Publish
from edo_stream.core.state import Table

TASK_KEY = b"o"


@dataclass(frozen=True, slots=True)
class TaskIdentity:
    """Name of a task; ids and accounts derive from it."""

    app: str
    group: str
    partition: int


@dataclass(frozen=True, slots=True)
class InternalTopics:
    """Topics of the task's own records. ``control`` has the partitions of the group."""

    accounts: str
    accounts_partitions: int
    gaps: str
    gaps_partitions: int
    control: str


class SourceRow(msgspec.Struct, array_like=True):
    """What the task remembers of one source topic."""

    next_offset: int
    held: int = 0
    """Events of this topic in the gap buffer, over all keys."""


class TaskRow(msgspec.Struct, array_like=True):
    """The task's own row; fields are only ever appended."""

    version: int = 1
    stream_ms: int = 0
    """Stream time: the latest record time seen, never running back."""
    sources: dict[str, SourceRow] = msgspec.field(default_factory=dict)
    swept_ms: int = 0
    """Stream time of the last look for idle keys."""
    swept_to: bytes = b""
    """Key of the state row at which the next look begins."""


_decode = msgspec.msgpack.Decoder(TaskRow).decode


def load_task(state: Table) -> TaskRow:
    """Read the task's row; a new one when the task has never run."""
    raw = state.get(TASK_KEY)
    return TaskRow() if raw is None else _decode(raw)


def save_task(state: Table, row: TaskRow) -> None:
    """Write the task's row; part of every step that did anything."""
    state.write(TASK_KEY, msgspec.msgpack.encode(row))


@dataclass(slots=True)
class Step:
    """What all parts of a task share while a step runs: its time, its row, what it publishes."""

    row: TaskRow
    now_ms: int = 0
    publish: list[Publish] = field(default_factory=list)
