"""Side effects by HTTP: one request a run, whose status says how it ended."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp

from edo_stream.actions.rules import HTTP_RULES, CodeRule, meaning_of
from edo_stream.actions.template import Template, UnfilledError, values_of
from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome

_ANSWER_BYTES_MAX: Final = 256 * 1024
_IDEMPOTENCY_KEY: Final = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What to send; ``secrets`` are headers whose values are read anew for each request."""

    method: str
    url: Template
    headers: Mapping[str, Template] = field(default_factory=dict)
    body: Template | None = None
    """``None`` sends the event's data as it is."""
    secrets: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    rules: Sequence[CodeRule] = ()
    """Before the usual meanings of status codes."""


class HttpExecutor:
    """Runs commands by requests; ``now`` gives epoch seconds, for dates in ``Retry-After``."""

    def __init__(
        self,
        request: HttpRequest,
        session: Callable[[], aiohttp.ClientSession],
        now: Callable[[], float],
    ) -> None:
        self._request = request
        self._session = session
        self._now = now
        self._rules = (*request.rules, *HTTP_RULES)

    async def __call__(self, command: Command) -> Outcome:
        """Send one request."""
        try:
            parts = self._fill(command)
        except UnfilledError as error:
            return Failed(FailureClass.POISON, "template", str(error))
        try:
            async with self._session().request(
                self._request.method, allow_redirects=False, **parts
            ) as answer:
                body = await answer.content.read(_ANSWER_BYTES_MAX)
                return self._outcome(answer, body)
        except aiohttp.InvalidURL:
            return Failed(FailureClass.POISON, "url", "not a URL that can be called")
        except aiohttp.ClientError as error:
            return Failed(FailureClass.TRANSIENT, "connection", type(error).__name__)

    def _fill(self, command: Command) -> dict[str, Any]:
        request, values = self._request, values_of(command)
        headers = {_IDEMPOTENCY_KEY: command.idempotency_key}
        headers |= {name: template.fill(values) for name, template in request.headers.items()}
        headers |= {name: secret() for name, secret in request.secrets.items()}
        for name in ("traceparent", "tracestate"):
            found = values["headers"].get(name) or values["headers"].get(f"ce_{name}")
            if found:
                headers.setdefault(name, found)
        body: bytes | None = command.data
        if request.body is not None:
            body = request.body.fill(values).encode()
        if body and "content-type" not in {name.lower() for name in headers}:
            headers["Content-Type"] = values["headers"].get("content-type") or "application/json"
        if request.method in ("GET", "HEAD"):
            body = None
        return {"url": request.url.fill(values), "headers": headers, "data": body}

    def _outcome(self, answer: aiohttp.ClientResponse, body: bytes) -> Outcome:
        meaning = meaning_of(answer.status, self._rules)
        if meaning is None:
            return Done(body or None, answer.content_type if body else None)
        wait_ms = retry_after_ms(answer.headers.get("Retry-After"), self._now())
        if meaning is FailureClass.TRANSIENT and answer.status == 503 and wait_ms is not None:
            meaning = FailureClass.THROTTLED
        return Failed(meaning, f"http-{answer.status}", answer.reason or "", wait_ms)


def retry_after_ms(text: str | None, now_s: float) -> int | None:
    """What a receiver asks for: seconds, or a date (RFC 9110 §10.2.3)."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:9]), 86_400) * 1000
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    wait_s = (at - datetime.fromtimestamp(now_s, UTC)).total_seconds()
    return min(max(0, int(wait_s * 1000)), 86_400_000)
