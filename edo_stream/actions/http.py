"""Side effects by HTTP: one request a run, whose status says how it ended.

Redirects are not followed: a 3xx is an answer that a flow's rules may name, and else a mistake in
its URL. What an event says stays data: it begins no other part of the URL and no other header. An
answer is read up to a bound, and what a receiver repeats of the credentials is taken out of it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

import aiohttp

from edo_stream.actions.rules import HTTP_RULES, CodeRule, meaning_of
from edo_stream.actions.template import Template, UnfilledError, values_of
from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome

ANSWER_BYTES_MAX: Final = 256 * 1024
_IDEMPOTENCY_KEY: Final = "Idempotency-Key"
_TRACE: Final = ("traceparent", "tracestate")
#: What no header's value may hold (RFC 9110 §5.5); a tab it may.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_RETRY_AFTER_MAX_S: Final = 86_400
#: Shorter texts are found in answers by chance.
_SECRET_CHARS_MIN: Final = 6


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What to send; ``secrets`` are headers whose values are read anew for each request."""

    method: str
    url: Template
    """A template of :attr:`~edo_stream.actions.template.Place.URL`."""
    headers: Mapping[str, Template] = field(default_factory=dict)
    body: Template | None = None
    """``None`` sends the event's data as it is."""
    secrets: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    rules: Sequence[CodeRule] = ()
    """Before the usual meanings of status codes."""


class _Filled(NamedTuple):
    url: str
    headers: dict[str, str]
    body: bytes | None
    secrets: list[str]


class Answer(NamedTuple):
    """A receiver's answer, read up to :data:`ANSWER_BYTES_MAX`."""

    status: int
    reason: str
    headers: Mapping[str, str]
    content_type: str
    body: bytes


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
            filled = self._fill(command)
        except UnfilledError as error:
            return Failed(FailureClass.POISON, "template", str(error))
        try:
            answer = await ask(
                self._session(),
                self._request.method,
                filled.url,
                headers=filled.headers,
                data=filled.body,
            )
        except ValueError:
            # aiohttp's InvalidURL is one; its text repeats the URL.
            return Failed(FailureClass.POISON, "url", "not a URL that can be called")
        except aiohttp.ClientError as error:
            return Failed(FailureClass.TRANSIENT, "connection", type(error).__name__)
        return self._outcome(answer, filled.secrets)

    def _fill(self, command: Command) -> _Filled:
        request, values = self._request, values_of(command)
        body = command.data if request.body is None else request.body.fill(values).encode()
        headers = {_IDEMPOTENCY_KEY: command.idempotency_key}
        if request.method in ("GET", "HEAD"):
            body = None
        elif body:
            headers["Content-Type"] = values["headers"].get("content-type") or "application/json"
        for name in _TRACE:
            found = values["headers"].get(name) or values["headers"].get(f"ce_{name}")
            if found and not _CONTROL.search(found):
                headers[name] = found
        for name, template in request.headers.items():
            _put(headers, name, template.fill(values))
        for name, value in headers.items():
            if _CONTROL.search(value):
                raise UnfilledError(f"header {name}: a control character, such as a line's end")
        secrets = {name: secret() for name, secret in request.secrets.items()}
        for name, value in secrets.items():
            _put(headers, name, value)
        return _Filled(request.url.fill(values), headers, body, list(secrets.values()))

    def _outcome(self, answer: Answer, secrets: Iterable[str]) -> Outcome:
        meaning = meaning_of(answer.status, self._rules)
        if meaning is None:
            body = without_secrets(answer.body, secrets)
            return Done(body or None, answer.content_type if body else None)
        detail = without_secrets(answer.reason.encode(), secrets).decode("utf-8", "replace")
        return failed(answer, meaning, detail, self._now())


def _put(headers: dict[str, str], name: str, value: str) -> None:
    """Set a header, in place of one whose name is written with other cases."""
    for other in [other for other in headers if other.lower() == name.lower()]:
        del headers[other]
    headers[name] = value


async def ask(session: aiohttp.ClientSession, method: str, url: str, **parts: Any) -> Answer:
    """Send one request and read the answer.

    Raises:
        ValueError: it is no request that can be sent.
        aiohttp.ClientError: no answer came.
    """
    async with session.request(method, url, allow_redirects=False, **parts) as answer:
        body = bytearray()
        while len(body) <= ANSWER_BYTES_MAX and (part := await answer.content.readany()):
            body += part
        # What is cut is not what its type says any more.
        is_whole = len(body) <= ANSWER_BYTES_MAX
        content_type = answer.content_type if is_whole else "application/octet-stream"
        return Answer(
            answer.status,
            answer.reason or "",
            answer.headers,
            content_type,
            bytes(body[:ANSWER_BYTES_MAX]),
        )


def failed(answer: Answer, meaning: FailureClass, detail: str, now_s: float) -> Failed:
    """The failure that an answer is: a 503 that says when is a receiver that asks for patience."""
    wait_ms = retry_after_ms(answer.headers.get("Retry-After"), now_s)
    if meaning is FailureClass.TRANSIENT and answer.status == 503 and wait_ms is not None:
        meaning = FailureClass.THROTTLED
    return Failed(meaning, f"http-{answer.status}", detail, wait_ms)


def retry_after_ms(text: str | None, now_s: float) -> int | None:
    """What a receiver asks for, a day at most: seconds, or a date (RFC 9110 §10.2.3)."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:9]), _RETRY_AFTER_MAX_S) * 1000
    try:
        at = parsedate_to_datetime(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        wait_s = (at - datetime.fromtimestamp(now_s, UTC)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(0, int(wait_s * 1000)), _RETRY_AFTER_MAX_S * 1000)


def without_secrets(text: bytes, secrets: Iterable[str]) -> bytes:
    """Take credentials out of what a receiver answers, which some repeat."""
    for secret in secrets:
        # The scheme is none: of "Bearer abc" the second word is.
        for part in (secret, secret.rpartition(" ")[2]):
            if len(part) >= _SECRET_CHARS_MIN:
                text = text.replace(part.encode(), b"***")
    return text
