"""Answers received in place, beside the streams that the client uses otherwise."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.native import IS_COMPILED
from edo_stream.engine.frames import FrameReader, Frames

SIZES = [1, 4, 32 << 10, (32 << 10) - 1, (64 << 10) + 1, 300_000, 3 << 20]
PATIENCE_S = 120


def content(size: int, seed: int = 0) -> bytes:
    return Random(seed).randbytes(size)


class Loose(asyncio.Transport):
    """A transport of nothing, which is told what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.is_paused = False

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


def made() -> tuple[asyncio.StreamReader, Frames]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=64 << 10, loop=loop)
    frames = Frames(loop.create_future(), reader, loop=loop)
    frames.connection_made(Loose())
    return reader, frames


def receive(frames: Frames, data: bytes) -> None:
    """Do what a transport does with bytes that have come."""
    at = 0
    while at < len(data):
        room = frames.get_buffer(-1)
        piece = data[at : at + len(room)]
        room[: len(piece)] = piece
        frames.buffer_updated(len(piece))
        at += len(piece)


@given(
    sizes=st.lists(st.sampled_from([*SIZES[:-2], 100_000]), min_size=1, max_size=6),
    cuts=st.lists(st.integers(1, 200_000), min_size=1, max_size=8),
    is_eager=st.booleans(),
)
def test_what_is_read_is_what_was_sent(sizes: list[int], cuts: list[int], is_eager: bool) -> None:
    async def main() -> None:
        reader, frames = made()
        wanted = [content(size, seed) for seed, size in enumerate(sizes)]
        sent = b"".join(wanted)

        async def read() -> list[bytes]:
            return [await reader.readexactly(len(one)) for one in wanted]

        reading = asyncio.ensure_future(read())
        at, turn = 0, 0
        while at < len(sent):
            cut = cuts[turn % len(cuts)]
            receive(frames, sent[at : at + cut])
            at, turn = at + cut, turn + 1
            if is_eager:
                await asyncio.sleep(0)
        got = await asyncio.wait_for(reading, PATIENCE_S)
        assert got == wanted
        assert {type(one) for one in got} == {bytes}
        assert not reader.at_eof()

    asyncio.run(main())


def test_a_large_answer_wakes_its_reader_once_and_pauses_nothing() -> None:
    async def main() -> None:
        reader, frames = made()
        assert isinstance(reader, FrameReader)
        wanted = content(1 << 20)
        reading = asyncio.ensure_future(reader.readexactly(len(wanted)))
        await asyncio.sleep(0)
        for at in range(0, len(wanted), 1000):
            receive(frames, wanted[at : at + 1000])
            waiter = reader._waiter
            is_last = at + 1000 >= len(wanted)
            assert (waiter is None) is is_last
        transport = frames._transport
        assert not transport.is_paused
        assert await reading == wanted

    asyncio.run(main())


@pytest.mark.parametrize("there", [0, 10, 50_000])
def test_a_connection_that_ends_within_an_answer_says_so(there: int) -> None:
    async def main() -> None:
        reader, frames = made()
        reading = asyncio.ensure_future(reader.readexactly(100_000))
        await asyncio.sleep(0)
        receive(frames, content(there))
        frames.eof_received()
        with pytest.raises(asyncio.IncompleteReadError) as raised:
            await reading
        assert raised.value.partial == content(there)
        assert raised.value.expected == 100_000

    asyncio.run(main())


@pytest.mark.parametrize("is_late", [False, True])
def test_a_connection_that_breaks_within_an_answer_raises_why(is_late: bool) -> None:
    async def main() -> None:
        reader, frames = made()
        reading = asyncio.ensure_future(reader.readexactly(100_000))
        await asyncio.sleep(0)
        receive(frames, content(50_000))
        if not is_late:
            await asyncio.sleep(0)
        frames.connection_lost(ConnectionResetError("by peer"))
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reading, PATIENCE_S)

    asyncio.run(main())


def test_a_size_that_no_broker_sends_is_given_no_room() -> None:
    async def main() -> None:
        reader, frames = made()
        assert isinstance(reader, FrameReader)
        reading = asyncio.ensure_future(reader.readexactly(int.from_bytes(b"HTTP")))
        await asyncio.sleep(0)
        assert reader.rest is None
        receive(frames, b"/1.1 400 Bad Request")
        frames.eof_received()
        with pytest.raises(asyncio.IncompleteReadError):
            await reading

    asyncio.run(main())


def test_a_reader_that_gives_up_leaves_no_room_behind() -> None:
    async def main() -> None:
        reader, frames = made()
        reading = asyncio.ensure_future(reader.readexactly(100_000))
        await asyncio.sleep(0)
        receive(frames, content(60_000))
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        receive(frames, b"next")
        assert await reader.readexactly(4) == b"next"

    asyncio.run(main())


@pytest.mark.skipif(not IS_COMPILED, reason="without the compiled half it is a bytearray")
def test_bytes_that_were_taken_are_written_to_no_more() -> None:
    from edo_stream.core._native import Frame  # noqa: PLC0415 - there is none without a compiler

    frame = Frame(4)
    view = memoryview(frame)
    view[:] = b"abcd"
    with pytest.raises(BufferError):
        frame.take()
    view.release()
    assert frame.take() == b"abcd"
    for again in (frame.take, lambda: memoryview(frame)):
        with pytest.raises(BufferError):
            again()


@asynccontextmanager
async def served(answers: Iterable[bytes]) -> AsyncIterator[asyncio.StreamReader]:
    """A connection of ours to a server that sends answers, and closes."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            writer.write(answer)
            await writer.drain()
        writer.close()

    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader = asyncio.StreamReader(limit=64 << 10, loop=loop)
    frames = Frames(loop.create_future(), reader, loop=loop)
    address = server.sockets[0].getsockname()
    transport, _ = await loop.create_connection(lambda: frames, *address)
    try:
        yield reader
    finally:
        transport.close()
        server.close()
        await server.wait_closed()


def test_answers_of_all_sizes_come_over_a_real_connection() -> None:
    wanted = [content(size, seed) for seed, size in enumerate(SIZES * 2)]
    framed = [len(one).to_bytes(4) + one for one in wanted]

    async def main() -> None:
        async with served(framed) as reader:
            for one in wanted:
                size = int.from_bytes(await reader.readexactly(4))
                assert await reader.readexactly(size) == one
            with pytest.raises(asyncio.IncompleteReadError):
                await reader.readexactly(4)

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))
