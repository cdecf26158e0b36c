"""How the end of a command comes to the flow that gathers it: by the internal topic of waits.

Whatever ends the command of a split event, an outcome or a dead letter, is written in one
transaction with a record for each flow that gathers: no end is told without having happened, and
none twice. The record's correlation key is the id of the event that was split. The event itself
comes the same way before them, in the transaction that writes the commands.
"""

from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from edo_stream.core.asked import Replies
from edo_stream.core.correlation.joined import Joined, encode_joined
from edo_stream.core.effects import Publish
from edo_stream.core.headers import utf8
from edo_stream.core.partitioner import partition_of

RESULTS: Final = "results"
"""Name of the input that ends are."""
SPLIT: Final = "split"
"""Name of the input that the event is that was split: it opens the wait, and tells their number."""


@dataclass(frozen=True, slots=True)
class EndFeed:
    """A flow that gathers how the commands of another flow end."""

    flow: str
    topic: str
    """Internal topic of its group."""
    partitions: int
    """Of it."""
    bytes_max: int = 1_048_576
    """What it takes."""
    replies: Replies | None = None
    """Where the event that is split may ask to be told of the end of the whole."""

    def record(self, of: str, joined: Joined, now_ms: int) -> Publish:
        """The record by which an end, or the event, comes to the wait of the event."""
        key = utf8(of)
        partition = partition_of(key, self.partitions)
        value = encode_joined(replace(joined, flow=self.flow))
        return Publish(self.topic, partition, key, value, (), now_ms)
