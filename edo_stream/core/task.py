"""A task: one partition number of one co-partition group, and what it remembers of itself."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from edo_stream.core.effects import Publish
from edo_stream.core.state import FORMAT, Table

if TYPE_CHECKING:
    from edo_stream.core._native import WireOutput

TASK_KEY = b"o"
WRITTEN_MAX: Final = 10_000
"""Records of a step beyond which it takes up nothing more."""
WRITTEN_BYTES_MAX: Final = 4 << 20


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

    version: int = FORMAT
    stream_ms: int = 0
    """Stream time: the latest record time seen, never running back."""
    sources: dict[str, SourceRow] = msgspec.field(default_factory=dict)
    swept_ms: int = 0
    """Stream time of the last look for idle keys."""
    swept_to: bytes = b""
    """Key of the state row at which the next look begins."""


class _Version(msgspec.Struct, array_like=True):
    """What every format's row begins with; the rest may be anything."""

    version: int


_decode = msgspec.msgpack.Decoder(TaskRow).decode
_decode_version = msgspec.msgpack.Decoder(_Version).decode


def load_task(state: Table) -> TaskRow:
    """Read the task's row; a new one when the task has never run.

    A row of an earlier format is one of this format from here on. Of a later one nothing is known:
    ask :func:`refusal` before anything is decided by it.
    """
    raw = state.get(TASK_KEY)
    if raw is None or _decode_version(raw).version > FORMAT:
        return TaskRow()
    row = _decode(raw)
    row.version = FORMAT
    return row


def refusal(state: Table) -> str | None:
    """Why a task must not go on with its state, if so: a later version has written it."""
    raw = state.get(TASK_KEY)
    version = FORMAT if raw is None else _decode_version(raw).version
    if version <= FORMAT:
        return None
    return (
        f"its state has format {version}, and this version of edo_stream knows formats up to "
        f"{FORMAT}: a later version has written it. Start that one again"
    )


def save_task(state: Table, row: TaskRow) -> None:
    """Write the task's row; part of every step that did anything."""
    state.write(TASK_KEY, msgspec.msgpack.encode(row))


@dataclass(slots=True)
class Step:
    """What all parts of a task share while a step runs: its time, its row, what it publishes."""

    row: TaskRow
    now_ms: int = 0
    publish: list[Publish] = field(default_factory=list)
    output: "WireOutput | None" = None
    """Where the compiled half writes what it publishes, if that is sent as it is."""
    taken: int = 0
    """Events that were taken out of the state to go on."""
    written_bytes: int = 0
    """Of what is published, as far as it was counted."""
    _counted: int = 0

    def begin(self, now_ms: int) -> None:
        """Begin anew: nothing is published."""
        self.now_ms = now_ms
        self.clear()
        self.taken = self.written_bytes = self._counted = 0

    def clear(self) -> None:
        """Publish nothing of what was to be published."""
        self.publish = []
        if self.output is not None:
            self.output.begin()

    def count(self) -> None:
        """Count the bytes of what was published since the last time."""
        publish = self.publish
        for index in range(self._counted, len(publish)):
            record = publish[index]
            self.written_bytes += len(record.key or b"") + len(record.value or b"")
        self._counted = len(publish)

    def note(self, written_bytes: int) -> None:
        """Count what was published since the last time as so many bytes."""
        self.written_bytes += written_bytes
        self._counted = len(self.publish)

    @property
    def is_full(self) -> bool:
        """Whether it is enough for one transaction; what is left is for the next step.

        A transaction has a time limit, and all of it is in memory at once. Ask between two records
        of the input: what comes of one record is written in one step.
        """
        written = len(self.publish) + (0 if self.output is None else self.output.count)
        if written >= WRITTEN_MAX or self.taken >= WRITTEN_MAX:
            return True
        self.count()
        return self.written_bytes >= WRITTEN_BYTES_MAX
