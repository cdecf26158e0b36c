"""The gateway itself: what becomes of a request, from its headers to its answer."""

import asyncio
import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from edo_stream.gateway.access_log import AccessLog
from edo_stream.gateway.admission import client_address, is_within
from edo_stream.gateway.backlog import Backlog, Depth
from edo_stream.gateway.content import Outgoing, Unread, digest_identity
from edo_stream.gateway.declaration import Declaration
from edo_stream.gateway.documents import Documents
from edo_stream.gateway.http import Exchange, Server, answer_bytes
from edo_stream.gateway.metrics import Metrics
from edo_stream.gateway.outgoing import TOO_LARGE, Writer
from edo_stream.gateway.pages import Page, page_answer
from edo_stream.gateway.refusals import Refusals
from edo_stream.gateway.remembered import Remembered
from edo_stream.gateway.source import CompiledSource
from edo_stream.webhooks.request import Headers, Request
from edo_stream.webhooks.verdict import (
    BODY_MALFORMED,
    DOCUMENT_UNAVAILABLE,
    HEADER_REPEATED,
    KEY_UNKNOWN,
    SECRET_MISSING,
    TOPIC_REFUSED,
    Accepted,
    Answer,
    Needed,
    Rejected,
)
from edo_stream.webhooks.verifier import judge

log = logging.getLogger(__name__)

_ACCEPTED: Final = answer_bytes(202, b'{"accepted":true}')
_STATUS: Final = {
    BODY_MALFORMED: 400,
    HEADER_REPEATED: 400,
    TOPIC_REFUSED: 403,
    DOCUMENT_UNAVAILABLE: 503,
    SECRET_MISSING: 503,
}
_RETRY_S: Final = 5
#: For which a body may come slowly, however many others do.
_UNDISTURBED_S: Final = 1.0
_REFRESH_S: Final = 1.0
_WATCH_S: Final = 5.0
_WATCH_PATIENCE_S: Final = 3.0
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


class Note:
    """What is known of an exchange under way."""

    __slots__ = ("body_bytes", "client", "headers", "key", "query", "source")

    def __init__(self, source: CompiledSource, headers: Headers, client: str, query: bytes) -> None:
        self.source = source
        self.headers = headers
        self.client = client
        self.query = query
        self.body_bytes = 0
        self.key: bytes | None = None


class Gateway:
    """Judges exchanges, writes their records, answers."""

    def __init__(
        self,
        declaration: Declaration,
        environ: Mapping[str, str],
        writer: Writer,
        documents: Documents,
        access_log: AccessLog,
    ) -> None:
        self._backlog: Backlog | None = None
        self._declared = declaration
        self._writer = writer
        self._documents = documents
        self._access_log = access_log
        self._sources: dict[bytes, CompiledSource] = {}
        for name, source in declaration.sources.items():
            path = (source.path or f"/{name}").encode()
            self._sources[path] = CompiledSource(name, source, environ)
        self._remembered = Remembered(declaration.remembered)
        self._refusals = Refusals(declaration.rejected.rate)
        self.metrics = Metrics(self._see, self._depths)
        self._server: Server | None = None
        self._loop = asyncio.get_running_loop()
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._receiving: dict[Exchange, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unready: list[str] = ["the broker has not been asked yet"]
        self._refreshing = self._loop.call_later(_REFRESH_S, self._refresh)
        self._watching = self._loop.create_task(self._watch())
        self._own_pages = True

    def serve(self, server: Server, shows_pages: bool) -> None:
        """Know the server, and whether its port answers ``/metrics`` and the like."""
        self._server = server
        self._own_pages = shows_pages

    def heed(self, backlog: Backlog) -> None:
        """Turn requests away while the workers are too far behind with their source."""
        self._backlog = backlog

    async def close(self) -> None:
        """End what runs beside the requests."""
        self._refreshing.cancel()
        self._watching.cancel()
        tasks = [self._watching, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- the server's side

    def admit(self, exchange: Exchange) -> bytes | None:
        """Judge the headers; what is refused here has cost no memory for its body."""
        path, _, query = exchange.target.partition(b"?")
        source = self._sources.get(path)
        if source is None:
            return self._page(exchange, path)
        if exchange.method != b"POST":
            return self._other_method(exchange, source)
        headers = Headers(exchange.fields)
        client = exchange.peer
        if self._declared.trusted_proxies:
            forwarded = _listed(exchange, b"x-forwarded-for")
            client = client_address(client, forwarded, self._declared.trusted_proxies)
        refused = self._bound(exchange, source, headers, client)
        if refused is not None:
            return refused
        exchange.note = Note(source, headers, client, query)
        self._in_flight += 1
        self._receiving[exchange] = None
        return None

    def _bound(
        self, exchange: Exchange, source: CompiledSource, headers: Headers, client: str
    ) -> bytes | None:
        if source.networks is not None and not is_within(client, source.networks):
            return self._refuse(exchange, source, 403, "network", "address is not allowed")
        behind = None if self._backlog is None else self._backlog.refusal(source.name)
        if behind is not None:
            return self._refuse(exchange, source, 429, "backlog", *behind)
        limits = self._declared.limits
        if self._in_flight >= limits.in_flight:
            return self._refuse(exchange, source, 429, "storm", "too many requests at once", 1)
        if source.bucket is not None:
            wait_s = source.bucket.take(exchange.started_s)
            if wait_s:
                return self._refuse(exchange, source, 429, "rate", "too many requests", wait_s)
        return self._form(exchange, source, headers)

    def _form(self, exchange: Exchange, source: CompiledSource, headers: Headers) -> bytes | None:
        length = headers.first(b"content-length")
        if length is not None and length.isdigit() and int(length[:18]) > source.size_max:
            return self._refuse(exchange, source, 413, "size", _size_text(source))
        content_type = headers.first(b"content-type") or b""
        if not source.takes(content_type):
            return self._refuse(exchange, source, 415, "content-type", "content type not taken")
        encoding = headers.first(b"content-encoding")
        if encoding and encoding.lower() != b"identity":
            return self._refuse(exchange, source, 415, "content-encoding", "send it uncompressed")
        return None

    def grew(self, exchange: Exchange, size: int) -> bytes | None:
        """Judge the body as it comes."""
        note = exchange.note
        if note is None:
            return None
        note.body_bytes += size
        self._in_flight_bytes += size
        if exchange.body_bytes > note.source.size_max:
            return self._refuse(exchange, note.source, 413, "size", _size_text(note.source))
        bytes_max = self._declared.limits.in_flight_bytes
        while self._in_flight_bytes > bytes_max and self._gives_up_slowest(exchange):
            pass
        if self._in_flight_bytes > bytes_max:
            return self._refuse(
                exchange, note.source, 429, "storm", "too many bytes at once", _RETRY_S
            )
        return None

    def _gives_up_slowest(self, newest: Exchange) -> bool:
        """Give up the body that has been coming for longest, if that is long.

        Whoever holds bodies back to fill what there is for them keeps nobody else out.
        """
        slowest = next(iter(self._receiving))
        if slowest is newest or newest.started_s - slowest.started_s < _UNDISTURBED_S:
            return False
        # Before: a connection that is closing already is given up by itself.
        del self._receiving[slowest]
        slowest.connection.give_up("storm")
        return True

    def handle(self, exchange: Exchange) -> None:
        """Take a complete request."""
        self._receiving.pop(exchange, None)
        note = exchange.note
        assert note is not None, "only admitted requests come here"
        try:
            now_ms = time.time_ns() // 1_000_000
            body = exchange.body[0] if len(exchange.body) == 1 else b"".join(exchange.body)
            request = Request(note.headers, body, note.query, self._documents.texts)
            source = note.source
            answer = judge(source.verifier, source.keyring.keys, request, now_ms)
            is_unknown = isinstance(answer, Rejected) and answer.cause == KEY_UNKNOWN
            if isinstance(answer, Needed) or (is_unknown and not source.keyring.keys):
                self._run(exchange, self._judge_again(exchange, request, answer, now_ms))
            else:
                self._judged(exchange, request, answer, now_ms)
        except Exception as error:  # noqa: BLE001 - a stranger gets an answer, not a traceback
            self._internal(exchange, error)

    def closed(self, exchange: Exchange) -> None:
        """Release what a request held whose sender has left before it was complete."""
        note = exchange.note
        if note is not None and exchange.answer is None:
            exchange.answer = b""
            self._release(exchange, note)
            self.metrics.count(note.source.name, 0, "left")

    def broken(self, status: int, cause: str, peer: str) -> bytes:
        """Count what is no request."""
        self.metrics.count("", status, cause)
        self._access_log.add(time.time_ns() // 1_000_000, "", peer, status, cause, 0, 0.0)
        return _error(status, cause, cause.replace("-", " "), is_last=True)

    # -- from the verdict to the answer

    def _judged(self, exchange: Exchange, request: Request, answer: Answer, now_ms: int) -> None:
        source = exchange.note.source
        if isinstance(answer, Accepted):
            if answer.reply is not None:
                reply = answer.reply
                self._finish(
                    exchange,
                    reply.status,
                    answer_bytes(reply.status, reply.body, reply.content_type),
                )
            elif answer.confirm_url is not None:
                self._run(exchange, self._confirm(exchange, answer.confirm_url))
            else:
                self._write(exchange, request, answer, now_ms)
        elif isinstance(answer, Rejected):
            status = _STATUS.get(answer.cause, 401)
            exchange.respond(self._refuse(exchange, source, status, answer.cause, answer.detail))
        else:
            detail = "a certificate or key set could not be fetched"
            exchange.respond(self._refuse(exchange, source, 503, DOCUMENT_UNAVAILABLE, detail))

    async def _judge_again(
        self, exchange: Exchange, request: Request, answer: Answer, now_ms: int
    ) -> None:
        """Fetch what the verdict depends on, and judge with it."""
        source = exchange.note.source
        if isinstance(answer, Needed):
            await self._documents.fetch(answer.url)
        else:
            for url in [*self._documents.texts]:
                await self._documents.fetch(url, is_stale=True)
        answer = judge(source.verifier, source.keyring.keys, request, now_ms)
        self._judged(exchange, request, answer, now_ms)

    async def _confirm(self, exchange: Exchange, url: str) -> None:
        source = exchange.note.source
        if not source.confirms:
            self._finish(exchange, 200, answer_bytes(200, b'{"confirmed":false}'))
        elif await self._documents.confirm(url):
            log.info("subscription of source %s confirmed", source.name)
            self._finish(exchange, 200, answer_bytes(200, b'{"confirmed":true}'))
        else:
            detail = "the subscription could not be confirmed"
            exchange.respond(self._refuse(exchange, source, 503, DOCUMENT_UNAVAILABLE, detail))

    def _write(self, exchange: Exchange, request: Request, accepted: Accepted, now_ms: int) -> None:
        source = exchange.note.source
        records = source.read(request, accepted, now_ms)
        if isinstance(records, Unread):
            exchange.respond(self._refuse(exchange, source, 400, records.cause, records.detail))
            return
        if not records:
            self._finish(exchange, 202, _ACCEPTED)
            return
        key_name = _key_name(source, accepted)
        if key_name is not None:
            for record in records:
                record.headers.append(("ce_verifiedkey", key_name))
        self._remember(exchange, request, accepted, records)

    def _remember(
        self,
        exchange: Exchange,
        request: Request,
        accepted: Accepted,
        records: Sequence[Outgoing],
    ) -> None:
        """Write the records, unless they are known to be written or under way."""
        source = exchange.note.source

        def done(outcome: str | None) -> None:
            self._written(exchange, outcome)

        if len(records) > 1:
            # Each is known by its own id, which the engine's dedupe looks at.
            self._writer.send(source.topic, records, done)
            return
        identity = records[0].id
        if not accepted.is_id_signed:
            identity = digest_identity(identity, request.body)
        key = b"%b\x1e%b" % (source.name.encode(), identity)
        if self._remembered.is_acknowledged(key):
            self.metrics.count(source.name, 202, "duplicate")
            self._finish(exchange, 202, _ACCEPTED, is_counted=False)
        elif not self._remembered.joins(key, done):

            def first_done(outcome: str | None) -> None:
                done(outcome)
                self._remembered.settle(key, outcome)

            self._writer.send(source.topic, records, first_done)

    def _written(self, exchange: Exchange, outcome: str | None) -> None:
        if exchange.answer is not None:
            return
        if outcome is None:
            self.metrics.accepted(self._loop.time() - exchange.started_s)
            self._finish(exchange, 202, _ACCEPTED)
            return
        source = exchange.note.source
        if outcome == TOO_LARGE:
            answer = self._refuse(exchange, source, 413, outcome, "the topic takes no such record")
        else:
            detail = "the event could not be written in time: send it again"
            answer = self._refuse(exchange, source, 503, outcome, detail, _RETRY_S)
        exchange.respond(answer)

    # -- answers

    def _finish(
        self, exchange: Exchange, status: int, answer: bytes, is_counted: bool = True
    ) -> None:
        note = exchange.note
        if is_counted:
            self.metrics.count(note.source.name, status, "")
        took_s = self._loop.time() - exchange.started_s
        self._access_log.add(
            time.time_ns() // 1_000_000,
            note.source.name,
            note.client,
            status,
            "",
            exchange.body_bytes,
            took_s,
        )
        self._release(exchange, note)
        exchange.respond(answer)

    def _refuse(  # noqa: PLR0913 - what is counted, told and answered
        self,
        exchange: Exchange,
        source: CompiledSource | None,
        status: int,
        cause: str,
        detail: str,
        retry_s: float = 0,
    ) -> bytes:
        """Count, log and sample a refusal; gives its answer."""
        name = "" if source is None else source.name
        now_ms = time.time_ns() // 1_000_000
        self.metrics.count(name, status, cause)
        note = exchange.note
        client = exchange.peer if note is None else note.client
        now_s = self._loop.time()
        took_s = now_s - exchange.started_s
        self._access_log.add(now_ms, name, client, status, cause, exchange.body_bytes, took_s)
        topic = self._declared.rejected.topic
        if topic is not None and source is not None and self._refusals.is_sampled(now_s):
            record = self._refusals.record(exchange, name, status, cause, detail, now_ms)
            self._writer.send(topic, [record], lambda outcome: None)
        if note is not None:
            self._release(exchange, note)
        if status == 503 and not retry_s:
            retry_s = _RETRY_S
        return _error(status, cause, detail, retry_s)

    def _internal(self, exchange: Exchange, error: Exception) -> None:
        """A mistake of ours: said in the log without data, answered without a trace."""
        log.error("request failed: %s", type(error).__name__, exc_info=log.isEnabledFor(10))
        if exchange.answer is None:
            source = exchange.note.source
            exchange.respond(self._refuse(exchange, source, 503, "internal", "send it again"))

    def _release(self, exchange: Exchange, note: Note) -> None:
        self._receiving.pop(exchange, None)
        self._in_flight -= 1
        self._in_flight_bytes -= note.body_bytes
        note.body_bytes = 0
        exchange.body.clear()

    def _run(self, exchange: Exchange, work: Any) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001 - a stranger gets an answer, not a traceback
                self._internal(exchange, error)

        task = self._loop.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- pages and other methods

    def _page(self, exchange: Exchange, path: bytes) -> bytes:
        exchange.is_refused = True
        is_asked = exchange.method in (b"GET", b"HEAD") and self._own_pages
        page = self.page(path) if is_asked else None
        if page is None:
            return self._refuse(exchange, None, 404, "path", "there is nothing here")
        return page_answer(page, exchange.method)

    def page(self, path: bytes) -> Page | None:
        """One of the gateway's own pages."""
        if path == b"/healthz":
            return 200, b'{"ok":true,"reasons":[]}', "application/json"
        if path == b"/readyz":
            reasons = self.unready_reasons()
            body = msgspec.json.encode({"ok": not reasons, "reasons": reasons})
            return (503 if reasons else 200), body, "application/json"
        if path == b"/metrics":
            return 200, self.metrics.page(), _TEXT
        return None

    def unready_reasons(self) -> list[str]:
        """Why requests would be turned away; empty when they would not."""
        if self._server is not None and self._server.is_closing:
            return ["the gateway is stopping"]
        return self._unready

    def _other_method(self, exchange: Exchange, source: CompiledSource) -> bytes:
        if exchange.method == b"HEAD":
            self.metrics.count(source.name, 200, "")
            return answer_bytes(200)
        if exchange.method == b"OPTIONS" and source.handshakes:
            answer = self._handshake(exchange)
            if answer is not None:
                self.metrics.count(source.name, 200, "")
                return answer
        return self._refuse(exchange, source, 405, "method", "only POST is taken")

    def _handshake(self, exchange: Exchange) -> bytes | None:
        """The answer to the validation of CloudEvents' web hooks; ``None`` to anything else."""
        headers = Headers(exchange.fields)
        origin = headers.first(b"webhook-request-origin")
        if not origin:
            return None
        allowed = self._declared.allowed_origins
        shown = origin.decode("latin-1")
        if "*" not in allowed and shown not in allowed:
            return None
        more = [("WebHook-Allowed-Origin", "*" if "*" in allowed else shown), ("Allow", "POST")]
        if headers.first(b"webhook-request-rate"):
            more.append(("WebHook-Allowed-Rate", "*"))
        return answer_bytes(200, more=tuple(more))

    # -- beside the requests

    def _see(self) -> Mapping[str, float]:
        writer = self._writer
        return {
            "edo_gateway_connections": 0 if self._server is None else len(self._server.connections),
            "edo_gateway_in_flight": self._in_flight,
            "edo_gateway_in_flight_bytes": self._in_flight_bytes,
            "edo_gateway_remembered": len(self._remembered),
            "edo_gateway_kafka_away": int(writer.is_away),
            "edo_gateway_records_under_way": writer.under_way,
            "edo_gateway_records": writer.written,
            "edo_gateway_records_given_up": writer.given_up,
            "edo_gateway_rejected_unsampled": self._refusals.skipped,
        }

    def _depths(self) -> Mapping[str, Depth]:
        return {} if self._backlog is None else self._backlog.depths()

    def _refresh(self) -> None:
        for source in self._sources.values():
            source.keyring.refresh()
        self._refreshing = self._loop.call_later(_REFRESH_S, self._refresh)

    async def _watch(self) -> None:
        """Ask the broker, again and again, whether it is there and has the topics."""
        wanted = sorted({source.topic for source in self._sources.values()})
        while True:
            try:
                missing = await self._writer.missing_topics(wanted, _WATCH_PATIENCE_S)
                self._unready = [f"topic {topic} is missing at the broker" for topic in missing]
            except ConnectionError as error:
                self._unready = [f"the broker does not answer: {error}"]
            await asyncio.sleep(_WATCH_S)


def _key_name(source: CompiledSource, accepted: Accepted) -> bytes | None:
    names = source.keyring.names
    return names[accepted.key] if accepted.key < len(names) else None


def _listed(exchange: Exchange, name: bytes) -> bytes:
    """All of a header that is a list: a proxy continues its line, or writes one more."""
    lines = [value for field, value in exchange.fields if field.lower() == name]
    return b",".join(line for line in lines if line.strip())


def _size_text(source: CompiledSource) -> str:
    return f"the body is larger than {source.size_max} bytes"


def _error(
    status: int, cause: str, detail: str, retry_s: float = 0, is_last: bool = False
) -> bytes:
    body = msgspec.json.encode({"error": cause, "detail": detail})
    more: list[tuple[str, str]] = []
    if retry_s:
        more.append(("Retry-After", str(max(1, math.ceil(retry_s)))))
    if status == 405:
        more.append(("Allow", "POST"))
    return answer_bytes(status, body, more=tuple(more), is_last=is_last)
