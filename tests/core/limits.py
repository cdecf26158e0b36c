"""Less than a step usually writes."""

from dataclasses import dataclass, field

import pytest

from edo_stream.core import pipeline as deciding
from edo_stream.core import task
from edo_stream.core.correlation import pipeline as correlating
from edo_stream.core.task import WRITTEN_BYTES_MAX, WRITTEN_MAX

_WHERE = (task, deciding, correlating)


@dataclass
class Limits:
    """How much a step writes, in tests that want less than there is."""

    records: int = WRITTEN_MAX
    size_bytes: int = WRITTEN_BYTES_MAX
    _patch: pytest.MonkeyPatch = field(default_factory=pytest.MonkeyPatch)

    def __enter__(self) -> None:
        for where in _WHERE:
            self._patch.setattr(where, "WRITTEN_MAX", self.records)
            self._patch.setattr(where, "WRITTEN_BYTES_MAX", self.size_bytes)

    def __exit__(self, *_: object) -> None:
        self._patch.undo()
