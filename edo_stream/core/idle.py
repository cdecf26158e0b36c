"""Keys that were not seen for long: their rows are deleted, a few at a time, in stream time."""

from collections.abc import Mapping
from itertools import islice
from typing import Final

from edo_stream.core.assembly import ASSEMBLY, AssemblyRow, decode_assembly
from edo_stream.core.lane import Lane
from edo_stream.core.monotonic import ReachedRow, decode_reached
from edo_stream.core.sequence import SequenceRow, decode_sequence
from edo_stream.core.state import RowCache, Table
from edo_stream.core.task import Step

#: Rows of keys; the prefixes are neighbours of :data:`ASSEMBLY`, so that one scan meets all.
REACHED: Final = b"r"
SEQUENCE: Final = b"s"
_END: Final = b"t"

_EVERY_MS: Final = 1_000
_ROWS_MAX: Final = 64


class IdleSweep:
    """Looks at a few rows for each second of stream time, round and round.

    Where it stands is part of the task's row: what a step writes depends on the state alone, not
    on how long the worker has been running.
    """

    def __init__(  # noqa: PLR0913 - a cache for each kind of rows
        self,
        state: Table,
        step: Step,
        lanes: Mapping[bytes, Lane],
        sequences: RowCache[SequenceRow],
        reached: RowCache[ReachedRow],
        assemblies: RowCache[AssemblyRow],
    ) -> None:
        self._state = state
        self._step = step
        self._lanes = lanes
        self._sequences = sequences
        self._reached = reached
        self._assemblies = assemblies

    def run(self) -> None:
        """Delete what is idle among the next few rows; the first act of a step."""
        row = self._step.row
        if row.stream_ms - row.swept_ms < _EVERY_MS:
            return
        row.swept_ms = row.stream_ms
        rows = list(islice(self._state.scan(row.swept_to or ASSEMBLY, _END), _ROWS_MAX))
        row.swept_to = rows[-1][0] + b"\0" if len(rows) == _ROWS_MAX else b""
        for key, value in rows:
            self._look_at(key[:1], key[1:], value)

    def _look_at(self, kind: bytes, name: bytes, value: bytes) -> None:
        lane = self._lanes.get(name.partition(b"\0")[0])
        if lane is None:
            return
        if kind == SEQUENCE:
            sequence = decode_sequence(value)
            if lane.resequencer.is_idle(sequence):
                self._sequences.delete(name)
            elif sequence.held and sequence.due_ms is None:
                lane.resequencer.wake(name)
        elif kind == ASSEMBLY:
            assembly = decode_assembly(value)
            if lane.assembler.is_idle(assembly):
                self._assemblies.delete(name)
            elif assembly.held and assembly.due_ms is None:
                lane.assembler.wake(name)
        elif lane.monotonic is not None and lane.monotonic.is_idle(decode_reached(value)):
            self._reached.delete(name)
