"""A contract that is published while tasks run, and what of it rests in a task's state.

It comes as an operator's request on the control topic, like any other: the task applies it between
two batches, in the transaction that also commits the request's offset, and keeps it in its state.
So each task changes at one offset, which the row says, and whoever takes the task over judges by
the same contract, whatever files it has.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from edo_stream.core.event import Decoded
from edo_stream.core.record import Record

#: Rows of the state table: a contract by topic.
CONTRACT: Final = b"c"


class Published(msgspec.Struct, frozen=True, array_like=True):
    """A published contract, as a task has applied it."""

    revision: str
    version: int
    """Newest version of its schema; 0 without one."""
    bundle: bytes
    """Its files, as the registry package reads them."""
    offset: int = 0
    """First offset of the topic that is judged by it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The contract that a worker's own files have, and how to follow a published one."""

    revision: str
    version: int
    recompile: Callable[[bytes], Callable[[Record], Decoded]]
    """Makes a decoder of a bundle; raises ValueError with the reason why it cannot."""


encode_published = msgspec.msgpack.Encoder().encode
decode_published = msgspec.msgpack.Decoder(Published).decode
