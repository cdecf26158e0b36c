"""Answers of brokers, received where they stay.

aiokafka reads through asyncio's streams: 256 KiB at a time, each byte copied three times on its
way, and the connection paused and resumed between any two pieces, as its limit is 64 KiB. Answers
to fetches have some megabytes, and with each of these steps the consumer's thread lets go of the
interpreter, and waits until it has its turn again. Here the rest of a large answer is received
into a buffer of its own, and nobody is woken before all of it is there.

For connections without TLS: asyncio's gives a protocol of this kind one buffer's worth at most of
what had come when the peer closes, so that answers which are there already would be lost.
"""

import asyncio
from typing import Any, Final, cast

from aiokafka import conn as connections

from edo_stream.core.native import IS_COMPILED

if IS_COMPILED:
    from edo_stream.core._native import Frame


assert hasattr(connections, "AIOKafkaProtocol"), "aiokafka's protocol is gone: pin what we know"
for name in ("_wait_for_data", "_wakeup_waiter"):
    assert hasattr(asyncio.StreamReader, name), f"StreamReader.{name} is gone"

_LARGE_BYTES: Final = 32 << 10
"""From this size on an answer has a buffer of its own."""
_FRAME_BYTES_MAX: Final = 128 << 20
"""Beyond it the size is not one that a broker sends: no room is made before the bytes are there."""
_PIECE_BYTES: Final = 16 << 10


class _Frame(bytearray):
    """Bytes of a known number that come piece by piece; see ``Frame`` of the compiled half."""

    def take(self) -> bytes:
        """The bytes."""
        return bytes(self)


class FrameReader(asyncio.StreamReader):
    """A stream that reads many bytes, if their number is known, into one buffer."""

    _buffer: bytearray
    _eof: bool
    _exception: Exception | None
    rest: memoryview | None = None
    """Where the next bytes belong, while a large answer is waited for."""

    def received(self, size: int) -> None:
        """So many bytes were written to where they belong."""
        assert self.rest is not None, "nobody has asked for them"
        self.rest = self.rest[size:] if size < len(self.rest) else None
        if self.rest is None:
            cast(Any, self)._wakeup_waiter()

    def _missing(self) -> memoryview | None:
        # Asked for anew each time: whoever writes to it changes it.
        return self.rest

    async def readexactly(self, n: int) -> bytes:
        """See :meth:`asyncio.StreamReader.readexactly`.

        A reader that is cancelled has lost what was there: the connection is closed then.
        """
        if not max(_LARGE_BYTES, len(self._buffer) + 1) <= n <= _FRAME_BYTES_MAX:
            return await super().readexactly(n)
        frame = Frame(n) if IS_COMPILED else _Frame(n)
        with memoryview(frame) as whole:
            whole[: len(self._buffer)] = self._buffer
            self.rest = whole[len(self._buffer) :]
            self._buffer.clear()
            try:
                while (rest := self._missing()) is not None:
                    if self._exception is not None:
                        raise self._exception
                    if self._eof:
                        raise asyncio.IncompleteReadError(bytes(whole[: n - len(rest)]), n)
                    del rest
                    await cast(Any, self)._wait_for_data("readexactly")
            finally:
                if self.rest is not None:
                    self.rest.release()
                    self.rest = None
        return frame.take()


class Frames(connections.AIOKafkaProtocol, asyncio.BufferedProtocol):  # type: ignore[misc]
    """The client's protocol, which says where to receive to."""

    def __init__(self, closed: Any, reader: Any, *, loop: asyncio.AbstractEventLoop) -> None:
        reader.__class__ = FrameReader
        super().__init__(closed, reader, loop=loop)
        self._frames: FrameReader = reader
        self._piece = memoryview(bytearray(_PIECE_BYTES))
        self._is_piece = True

    def get_buffer(self, sizehint: int) -> memoryview:
        """See :meth:`asyncio.BufferedProtocol.get_buffer`."""
        rest = self._frames.rest
        self._is_piece = rest is None
        return self._piece if rest is None else rest

    def buffer_updated(self, nbytes: int) -> None:
        """See :meth:`asyncio.BufferedProtocol.buffer_updated`."""
        if self._is_piece:
            self._frames.feed_data(self._piece[:nbytes])
        else:
            self._frames.received(nbytes)


def receive_in_place() -> None:
    """Have all of this process' connections to brokers be of this kind; not for TLS."""
    setattr(connections, "AIOKafkaProtocol", Frames)  # noqa: B010 - the client's own name
