"""What batches are compressed by, by the topics that they go to."""

from typing import Final

import msgspec

from edo_stream.engine.record_batch import CODECS
from edo_stream.registry.names import INTERNAL_PREFIX

#: What one task writes for another to take up next: read once, mostly at once, by workers alone.
PASSED_ON: Final = tuple(
    INTERNAL_PREFIX + kind for kind in ("commands.", "joins.", "lookups-", "retry.", "saga-starts.")
)


class Compression(msgspec.Struct, frozen=True):
    """Codecs by their names in the settings."""

    kept: str = "none"
    passed_on: str = "none"
    """Of what tasks write for one another: :data:`PASSED_ON`."""

    def codec(self, topic: str) -> int:
        """Number of the codec for a topic."""
        return CODECS[self.passed_on if topic.startswith(PASSED_ON) else self.kept]
