"""The proxy: a listener for each broker, and between the two ends of a connection the rules.

Theory of operation. Kafka answers the requests of a connection in their order. So a connection
is two pumps: one reads requests, decides on each and queues what is to become of its answer; the
other takes that queue from the front and reads an answer for each entry. Answers that name
addresses are rewritten to the proxy's own, with a new listener for a broker not seen before.

It runs in a thread with a loop of its own, so that neither a busy test nor a blocked one slows
or stops it; the rules may be made and read from anywhere.
"""

import asyncio
import contextlib
import random
import struct
import threading
from collections import Counter
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from load.proxy.rules import Api, Harm, Kind, Rule
from load.proxy.wire import (
    Address,
    Call,
    addresses,
    error_answer,
    names_addresses,
    read_call,
    readdressed,
    with_error,
)

_HOST: Final = "127.0.0.1"
_FRAME_BYTES_MAX: Final = 100 << 20
_START_TIMEOUT_S: Final = 60.0


class Proxy:
    """A cluster's stand-in at :attr:`bootstrap`; use it as a context manager.

    ``seed`` decides what is left to chance by rules.
    """

    def __init__(self, bootstrap: str, seed: int = 0) -> None:
        self.rules: list[Rule] = []
        self.calls: Counter[int] = Counter()
        """Calls by API key."""
        self.failures: list[str] = []
        """What the proxy itself could not do: these are bugs here, not faults."""
        self._upstream = bootstrap
        self._chance = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listeners: dict[Address, Address] = {}
        self._servers: list[asyncio.Server] = []
        self._opening = asyncio.Lock()
        self._connections: set[_Connection] = set()

    @property
    def bootstrap(self) -> str:
        """Where clients connect, ``host:port`` for each server of the cluster's bootstrap."""
        return ",".join("{}:{}".format(*self._listeners[one]) for one in self._bootstrap())

    def on(self, api: Api, client_id: str | None = None) -> Rule:
        """Make a rule for an API, and for clients whose id contains a text."""
        rule = Rule(api, client_id, self._chance)
        self.rules.append(rule)
        return rule

    def rule(self, api: Api, harm: Harm) -> Rule:
        """Make a rule with a harm that was drawn or listed elsewhere."""
        rule = Rule(api, None, self._chance).do(harm)
        self.rules.append(rule)
        return rule

    def forget(self, rule: Rule) -> None:
        """Drop a rule that is done, so that calls need not be compared with it."""
        self.rules.remove(rule)

    def clear(self) -> None:
        """Harm nothing from now on; the rules keep their counts."""
        for rule in self.rules:
            rule.off()

    def idle_rules(self) -> list[str]:
        """Rules that have never fired."""
        return [rule.name for rule in self.rules if not rule.times_triggered]

    def fired(self) -> Counter[str]:
        """How often what was done, over all rules."""
        counts: Counter[str] = Counter()
        for rule in self.rules:
            counts[rule.name] += rule.times_triggered
        return counts

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._open_bootstrap())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(_START_TIMEOUT_S)

    # What follows runs in the proxy's thread.

    def _bootstrap(self) -> list[Address]:
        servers = (one.strip().rpartition(":") for one in self._upstream.split(","))
        return [(host, int(port)) for host, _, port in servers]

    async def _open_bootstrap(self) -> None:
        for upstream in self._bootstrap():
            await self.listener(upstream)

    async def listener(self, upstream: Address) -> Address:
        """Where the proxy stands in for a broker; opened when it is first heard of."""
        async with self._opening:
            if upstream not in self._listeners:

                async def accept(
                    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
                ) -> None:
                    await self._serve(upstream, reader, writer)

                server = await asyncio.start_server(accept, _HOST, 0)
                self._servers.append(server)
                self._listeners[upstream] = (_HOST, server.sockets[0].getsockname()[1])
        return self._listeners[upstream]

    async def _serve(
        self, upstream: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        connection = _Connection(self, upstream, reader, writer)
        self._connections.add(connection)
        try:
            await connection.run()
        except asyncio.CancelledError:
            pass  # The proxy ends; a server's handler that is cancelled would be logged.
        finally:
            self._connections.discard(connection)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        # A connection that was accepted just now starts its task only after this look.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await asyncio.sleep(0)

    def decide(self, call: Call) -> Harm | None:
        """What to do to a call, by the first rule that wants it."""
        self.calls[call.api_key] += 1
        for rule in tuple(self.rules):
            harm = rule.decide(call.api_key, call.client_id)
            if harm is not None:
                return harm
        return None


class _Expected(NamedTuple):
    """What becomes of the answer to a call; ``made_up`` is sent instead of reading one."""

    call: Call
    harm: Harm | None
    made_up: bytes | None = None


class _Connection:
    """One client's connection and the one to the broker behind it."""

    def __init__(
        self,
        proxy: Proxy,
        upstream: Address,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._upstream = upstream
        self._client_reader = reader
        self._client_writer = writer
        self._expected: asyncio.Queue[_Expected] = asyncio.Queue()

    async def run(self) -> None:
        """Pump until one end closes, or a rule closes both."""
        writers = [self._client_writer]
        pumps: list[asyncio.Task[None]] = []
        try:
            # A broker that is down refuses here; the client sees a connection closed at once.
            broker_reader, broker_writer = await asyncio.open_connection(*self._upstream)
            writers.append(broker_writer)
            pumps = [
                asyncio.create_task(self._pump_requests(broker_writer)),
                asyncio.create_task(self._pump_answers(broker_reader)),
            ]
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in done:
                pump.result()
        except (OSError, EOFError):
            pass
        except Exception as error:  # noqa: BLE001 - told to whoever asks for failures
            self._proxy.failures.append(f"{type(error).__name__}: {error}")
        finally:
            # Nothing is awaited before both ends are closed: the proxy's own end may cancel this.
            for pump in pumps:
                pump.cancel()
            for writer in writers:
                writer.close()
            try:
                await asyncio.gather(*pumps, return_exceptions=True)
                for writer in writers:
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
            except asyncio.CancelledError:
                for writer in writers:
                    writer.transport.abort()
                raise

    async def _pump_requests(self, broker: asyncio.StreamWriter) -> None:
        while True:
            frame = await _read_frame(self._client_reader)
            call = read_call(frame)
            harm = self._proxy.decide(call)
            made_up = None
            match harm:
                case Harm(kind=Kind.ERROR, code=code):
                    made_up = error_answer(call, code)
                case Harm(kind=Kind.DISCONNECT_BEFORE):
                    return
                case Harm(kind=Kind.BLACK_HOLE):
                    await self._swallow()
                case Harm(kind=Kind.DELAY, seconds=seconds):
                    await asyncio.sleep(seconds)
                case _:
                    pass
            if not call.is_silent:
                self._expected.put_nowait(_Expected(call, harm, made_up))
            if made_up is None:
                await _write_frame(broker, frame)

    async def _swallow(self) -> None:
        """Read on until the client gives up, which ends the connection."""
        while True:
            await _read_frame(self._client_reader)

    async def _pump_answers(self, broker: asyncio.StreamReader) -> None:
        while True:
            # A broker's end is noticed even when no answer is waited for.
            expected = await self._next_expected(broker)
            if expected is None:
                return
            call, harm, answer = expected
            if answer is None:
                answer = await _read_frame(broker)
                if harm is not None and harm.kind is Kind.DISCONNECT_AFTER:
                    return
                if harm is not None and harm.kind is Kind.ERROR_AFTER:
                    answer = with_error(call, answer, harm.code)
                if names_addresses(call):
                    answer = await self._readdressed(call, answer)
            await _write_frame(self._client_writer, answer)

    async def _next_expected(self, broker: asyncio.StreamReader) -> _Expected | None:
        while True:
            try:
                return await asyncio.wait_for(self._expected.get(), 0.5)
            except TimeoutError:
                if broker.at_eof():
                    return None

    async def _readdressed(self, call: Call, answer: bytes) -> bytes:
        moved = {one: await self._proxy.listener(one) for one in addresses(call, answer)}
        return readdressed(call, answer, moved.__getitem__)


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    if not 0 <= size <= _FRAME_BYTES_MAX:
        raise EOFError(f"not Kafka's protocol: a frame of {size} bytes")
    return await reader.readexactly(size)


async def _write_frame(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(struct.pack(">i", len(frame)) + frame)
    await writer.drain()
