"""An HTTP client that costs little: raw connections, kept alive, requests made beforehand.

Open-loop: a request goes out when it is due, whether or not those before it have been answered,
and its latency counts from when it was due. What waits in the client because the server is slow is
therefore part of the latency, as it is for a provider that has another event to tell.
"""

import asyncio
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import httptools
import msgspec

_TICK_S: Final = 0.001
_RECONNECT_S: Final = 0.05
BROKEN: Final = 0
"""Status of a request whose connection was lost before its answer."""


class Answers(msgspec.Struct):
    """Statuses and latencies (ms) by number of the request; -1 without an answer."""

    status: "array[int]"
    latency_ms: "array[float]"

    @classmethod
    def of(cls, count: int) -> "Answers":
        """Room for so many."""
        return cls(array("h", [-1]) * count, array("f", [-1.0]) * count)

    @property
    def counts(self) -> dict[int, int]:
        """How many requests got each status."""
        return dict(sorted(Counter(self.status).items()))

    def quantile(self, share: float) -> float:
        """Latency that a share of the accepted requests stayed within; NaN without any."""
        accepted = sorted(
            took for took, status in zip(self.latency_ms, self.status, strict=True) if status == 202
        )
        return (
            accepted[min(len(accepted) - 1, int(len(accepted) * share))]
            if accepted
            else float("nan")
        )


class Channel(asyncio.Protocol):
    """One connection; answers come in the order of the requests."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._parser = httptools.HttpResponseParser(self)
        self.waiting: deque[int] = deque()
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        """Take part."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Parse answers."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Give the answer to the oldest request."""
        self._load.answered(self.waiting.popleft(), self._parser.get_status_code())

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what was not answered, and connect anew."""
        self.transport = None
        for number in self.waiting:
            self._load.answered(number, BROKEN)
        self.waiting.clear()
        self._load.lost(self)

    def send(self, number: int, request: bytes) -> None:
        """Send one request."""
        self.waiting.append(number)
        self.transport.write(request)


class Load:
    """Connections to one gateway, and the requests that go over them."""

    def __init__(self, port: int, connections: int) -> None:
        self._port = port
        self._count = connections
        self._channels: list[Channel] = []
        self._loop = asyncio.get_running_loop()
        self._answers = Answers.of(0)
        self._due_s = array("d")
        self._left = 0
        self._done = asyncio.Event()
        self._is_closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._next: Any = None

    async def __aenter__(self) -> "Load":
        await asyncio.gather(*(self._connect() for _ in range(self._count)))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._is_closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            if channel.transport is not None:
                channel.transport.abort()
        await asyncio.sleep(0)

    async def open_loop(self, requests: Sequence[bytes], rate: float, grace_s: float) -> Answers:
        """Send at a rate; what is not answered within the grace after the last stays -1."""
        start_s = self._begin(len(requests))
        self._due_s = array("d", (start_s + number / rate for number in range(len(requests))))
        sent = 0
        while sent < len(requests):
            due = min(len(requests), int((self._loop.time() - start_s) * rate) + 1)
            while sent < due:
                channel = self._free(sent)
                if channel is None:
                    self.answered(sent, BROKEN)
                else:
                    channel.send(sent, requests[sent])
                sent += 1
            await asyncio.sleep(_TICK_S)
        if self._left:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), grace_s)
        return self._answers

    async def closed_loop(self, requests: Sequence[bytes], under_way: int) -> tuple[Answers, float]:
        """Send as fast as they are answered, so many at once; gives the seconds it took."""
        start_s = self._begin(len(requests))
        self._due_s = array("d", [start_s]) * len(requests)
        numbers = iter(range(len(requests)))

        def send_next() -> None:
            number = next(numbers, None)
            if number is None:
                return
            self._due_s[number] = self._loop.time()
            channel = self._free(number)
            assert channel is not None, "a connection was lost"
            channel.send(number, requests[number])

        self._next = send_next
        for _ in range(under_way):
            send_next()
        await self._done.wait()
        self._next = None
        return self._answers, self._loop.time() - start_s

    def answered(self, number: int, status: int) -> None:
        """Note an answer."""
        self._answers.status[number] = status
        self._answers.latency_ms[number] = (self._loop.time() - self._due_s[number]) * 1_000
        self._left -= 1
        if self._left == 0:
            self._done.set()
        if self._next is not None:
            self._next()

    def lost(self, channel: Channel) -> None:
        """Replace a connection."""
        if channel in self._channels:
            self._channels.remove(channel)
        if not self._is_closing:
            task = self._loop.create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _begin(self, count: int) -> float:
        self._answers = Answers.of(count)
        self._left = count
        self._done = asyncio.Event()
        return self._loop.time()

    def _free(self, number: int) -> Channel | None:
        return self._channels[number % len(self._channels)] if self._channels else None

    async def _connect(self) -> None:
        while True:
            try:
                _, channel = await self._loop.create_connection(
                    lambda: Channel(self), "127.0.0.1", self._port
                )
            except OSError:
                await asyncio.sleep(_RECONNECT_S)
            else:
                self._channels.append(channel)
                return
