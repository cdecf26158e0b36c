"""A gateway on a socket of this machine, with a topic in memory, for the tests of this folder."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edo_stream.gateway.access_log import AccessLog
from edo_stream.gateway.app import Gateway
from edo_stream.gateway.config import read_config
from edo_stream.gateway.content import Outgoing
from edo_stream.gateway.documents import Documents
from edo_stream.gateway.http import Server
from edo_stream.gateway.outgoing import AWAY, Done
from edo_stream.gateway.remembered import Outcome

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENVIRON = {"SECRET": SECRET, "TOKEN": "t0ken", "PLAIN": "hush"}

SOURCES = """\
listen: 127.0.0.1:8080
limits: {header_time: 300ms, body_time: 300ms, idle_time: 5s, in_flight_bytes: 64KiB}
sources:
  signed:
    topic: shop.payment.received
    verify: {scheme: standard-webhooks, secrets: ["env:SECRET"]}
    key: /data/customer
    size: 4KiB
  github:
    topic: shop.code.pushed
    verify: {scheme: github, secrets: ["env:PLAIN"]}
  events:
    topic: shop.event.happened
    verify: {scheme: bearer, secrets: ["env:TOKEN"]}
    body: cloudevents
  form:
    topic: shop.form.sent
    verify: {scheme: api-key, secrets: ["env:TOKEN"]}
    body: form
    id: /id
    subject: "{/kind}-{header:X-Shop}"
  raw:
    topic: shop.file.sent
    verify: {scheme: api-key, secrets: ["env:TOKEN"]}
    body: raw
    id: "{digest}"
  limited:
    topic: shop.limited.sent
    verify: {scheme: api-key, secrets: ["env:TOKEN"]}
    id: /id
    rate: 1/m
    burst: 2
  near:
    topic: shop.near.sent
    verify: {scheme: none}
    from: [10.0.0.0/8]
    id: /id
"""

T = TypeVar("T")


class MemoryTopic:
    """What the gateway has written; ``hold`` keeps outcomes back until ``release``."""

    def __init__(self) -> None:
        self.records: list[tuple[str, Outgoing]] = []
        self.outcome: Outcome = None
        self.is_held = False
        self._held: list[tuple[str, Sequence[Outgoing], Done]] = []
        self.under_way = self.written = self.given_up = 0
        self.is_away = False

    def send(self, topic: str, records: Sequence[Outgoing], done: Done) -> None:
        self._held.append((topic, records, done))
        if not self.is_held:
            self.release()

    def release(self) -> None:
        held, self._held = self._held, []
        for topic, records, done in held:
            if self.outcome is None:
                self.records += [(topic, record) for record in records]
            done(self.outcome)

    async def missing_topics(self, wanted: Sequence[str], patience_s: float) -> list[str]:
        if self.outcome == AWAY:
            raise ConnectionError("nobody answers")
        return []

    def events(self) -> list[tuple[str, Outgoing]]:
        """What was written, without samples of what was refused."""
        return [one for one in self.records if not one[0].startswith("edo.")]

    def samples(self) -> list[dict[str, Any]]:
        return [
            json.loads(record.value or b"")
            for topic, record in self.records
            if topic.startswith("edo.")
        ]


PATIENCE_S = 60.0
"""Long, for machines under load: a wait ends as soon as there is what it waits for."""


class Answer:
    """An answer as the other end reads it."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def cause(self) -> str:
        return str(json.loads(self.body)["error"])


class Place:
    """A gateway that listens, and what it writes to."""

    def __init__(self, port: int, topic: MemoryTopic, gateway: Gateway, server: Server) -> None:
        self.port = port
        self.topic = topic
        self.gateway = gateway
        self.server = server
        self.log: list[str] = []

    async def post(
        self, path: str, body: bytes = b"{}", method: str = "POST", **headers: str
    ) -> Answer:
        """Send one request; names of headers have ``_`` for ``-``."""
        lines = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        told = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{told}Content-Length: {len(body)}\r\n\r\n"
        return (await self.raw(head.encode("latin-1") + body))[0]

    async def raw(self, sent: bytes, count: int = 1, ends: bool = False) -> list[Answer]:
        """Send bytes and read so many answers."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(sent)
            if ends:
                writer.write_eof()
            async with asyncio.timeout(PATIENCE_S):
                return [await read_answer(reader) for _ in range(count)]
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    """Let others run until something holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    lines = (line.split(": ", 1) for line in head[1:] if line)
    headers = {name.lower(): value for name, value in lines}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(head[0].split()[1]), headers, body)


def at_place(
    tmp_path: Path,
    use: Callable[[Place], Awaitable[T]],
    text: str = SOURCES,
    fetch: Callable[[str], str] | None = None,
    environ: Mapping[str, str] = ENVIRON,
) -> T:
    """Run a gateway while it is used."""
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    declaration = read_config(file, environ)

    async def run() -> T:
        topic = MemoryTopic()
        lines: list[str] = []
        log = AccessLog("all", lines.append)
        documents = Documents() if fetch is None else Documents(fetch)
        gateway = Gateway(declaration, environ, topic, documents, log)  # type: ignore[arg-type]
        server = Server(gateway, declaration.limits)
        gateway.serve(server, shows_pages=True)
        place = Place(await server.listen("127.0.0.1", 0), topic, gateway, server)
        place.log = lines
        try:
            return await use(place)
        finally:
            await server.drain(0.5)
            await gateway.close()
            log.close()

    return asyncio.run(run())


def signed(body: bytes, event_id: str = "msg_1", at_s: int | None = None) -> dict[str, str]:
    """Headers of Standard Webhooks."""
    at_s = int(time.time_ns() // 1_000_000_000) if at_s is None else at_s
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    code = hmac.digest(key, b"%b.%d.%b" % (event_id.encode(), at_s, body), "sha256")
    return {
        "webhook_id": event_id,
        "webhook_timestamp": str(at_s),
        "webhook_signature": f"v1,{base64.b64encode(code).decode()}",
    }
