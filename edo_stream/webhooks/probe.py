"""One request as a JSON object, judged: what ``edo webhook verify --jsonl`` does with a line.

A line that cannot be read is answered with ``error``; the next one is not affected.
"""

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
import orjson

from edo_stream.core.lines import id_of
from edo_stream.webhooks.options import Options
from edo_stream.webhooks.request import Headers, Request
from edo_stream.webhooks.schemes import verifier
from edo_stream.webhooks.verdict import (
    DOCUMENT_UNAVAILABLE,
    Accepted,
    Answer,
    Needed,
    Rejected,
    Verdict,
)
from edo_stream.webhooks.verifier import verify

Fetch = Callable[[str], str]
"""Text of a document by its address; raises ``OSError`` when it is not to be had."""

#: Epoch seconds are below until the year 5138, epoch ms have been above since 1973.
_FIRST_MS: Final = 100_000_000_000
_NUMBER: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_FETCHES_MAX: Final = 2
_BESIDE: Final = frozenset(Options.__struct_fields__) - {"query"}


class LineError(ValueError):
    """A line is not a request; says what it should have."""


def check(scheme: str, options: Options) -> None:
    """Check a scheme and its options.

    Raises:
        ValueError: says what to write instead.
    """
    verifier(scheme, options)


def answer(line: bytes, scheme: str, options: Options, now_ms: int, fetch: Fetch) -> dict[str, Any]:
    """Judge the request of one line; ``now_ms`` counts where the line says none."""
    try:
        asked = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return {"id": id_of(line), "error": f"not JSON: {error.msg} at byte {error.pos}"}
    if not isinstance(asked, dict):
        return {"id": None, "error": "not a JSON object"}
    told = {"id": asked.get("id")}
    try:
        orjson.dumps(told)
    except orjson.JSONEncodeError:
        return {"id": None, "error": "id cannot be repeated: write a text or a number"}
    try:
        return told | shown(_judge(asked, scheme, options, now_ms, fetch))
    except ValueError as error:
        return told | {"error": str(error)}


def shown(verdict: Verdict) -> dict[str, Any]:
    """An answer as plain values; what is not there is left out."""
    if isinstance(verdict, Rejected):
        return {"accepted": False, "cause": verdict.cause, "detail": verdict.detail}
    told: dict[str, Any] = {"accepted": True, "secret": verdict.key + 1}
    if verdict.event_id is not None:
        told["event_id"] = verdict.event_id
    if verdict.signed_at_ms is not None:
        told["signed_at_ms"] = verdict.signed_at_ms
    if verdict.reply is not None:
        reply = verdict.reply
        told["reply"] = {
            "status": reply.status,
            "content_type": reply.content_type,
            "body": reply.body.decode("utf-8", "replace"),
        }
    if verdict.confirm_url is not None:
        told["confirm_url"] = verdict.confirm_url
    return told


def judge_fetching(
    ask: Callable[[Mapping[str, str]], Answer], fetch: Fetch, known: Mapping[str, str]
) -> Verdict:
    """Ask, and ask again with each document that the answer names."""
    fetched = dict(known)
    for _ in range(_FETCHES_MAX):
        found = ask(fetched)
        if isinstance(found, (Accepted, Rejected)):
            return found
        try:
            fetched[found.url] = fetch(found.url)
        except OSError as error:
            return Rejected(DOCUMENT_UNAVAILABLE, f"{found.url}: {type(error).__name__}")
    found = ask(fetched)
    assert not isinstance(found, Needed), "a scheme asks for one document"
    return found


def _judge(
    asked: dict[str, Any], scheme: str, options: Options, now_ms: int, fetch: Fetch
) -> Verdict:
    options = _options(asked, options)
    check = verifier(_text(asked, "scheme", scheme), options)
    secrets = _secrets(asked.get("secrets", asked.get("secret", [])))
    headers, body = Headers(_headers(asked.get("headers"))), _body(asked)
    query = _text(asked, "query").encode()
    at_ms = time_ms(asked["now"]) if asked.get("now") is not None else now_ms

    def ask(fetched: Mapping[str, str]) -> Answer:
        return verify(check, secrets, Request(headers, body, query, fetched), at_ms)

    return judge_fetching(ask, fetch, _documents(asked))


def _documents(asked: dict[str, Any]) -> dict[str, str]:
    """Certificates and key sets by address, so that none is fetched."""
    given = asked.get("documents", {})
    if isinstance(given, dict) and all(isinstance(text, str) for text in given.values()):
        return given
    raise LineError("documents is not an object of texts")


def _options(asked: dict[str, Any], options: Options) -> Options:
    """Options of the line: in ``options``, or beside the rest where no other member is so named."""
    given = asked.get("options", {})
    if not isinstance(given, dict):
        raise LineError("options is no object")
    given = {name: asked[name] for name in _BESIDE & asked.keys()} | given
    if not given:
        return options
    try:
        return msgspec.convert(msgspec.structs.asdict(options) | given, Options)
    except msgspec.ValidationError as error:
        raise LineError(f"options: {error}") from None


def _text(asked: dict[str, Any], name: str, default: str = "") -> str:
    value = asked.get(name, default)
    if not isinstance(value, str):
        raise LineError(f"{name} is no text")
    return value


def _secrets(given: object) -> list[str]:
    secrets = [given] if isinstance(given, str) else given
    if isinstance(secrets, list) and all(isinstance(one, str) for one in secrets):
        return secrets
    raise LineError("secrets is not a list of texts")


def _headers(given: object) -> Iterator[tuple[bytes, bytes]]:
    """Name and value of each field; an object, or a list of pairs, as headers may repeat."""
    if isinstance(given, dict):
        pairs = [
            (name, value)
            for name, values in given.items()
            for value in (values if isinstance(values, list) else [values])
        ]
    elif isinstance(given, list) and all(isinstance(one, list) and len(one) == 2 for one in given):
        pairs = [(name, value) for name, value in given]
    else:
        raise LineError("headers is neither an object nor a list of pairs")
    for name, value in pairs:
        number = isinstance(value, int) and not isinstance(value, bool)
        if not isinstance(name, str) or not (number or isinstance(value, str)):
            raise LineError("a header's name or value is no text")
        yield name.encode(), str(value).encode()


def _body(asked: dict[str, Any]) -> bytes:
    match asked.get("body"):
        case str() as text:
            return text.encode()
        case {"base64": str() as text}:
            try:
                return base64.b64decode(text, validate=True)
            except ValueError:
                raise LineError("body.base64 is not Base64") from None
        case _:
            raise LineError('body is neither a text nor {"base64": …}')


def time_ms(given: object) -> int:
    """Epoch ms of a time as people write it: epoch seconds, epoch ms, or ISO 8601."""
    if isinstance(given, str) and not _NUMBER.fullmatch(given):
        try:
            found = datetime.fromisoformat(given)
        except ValueError:
            found = None
        if found is not None and found.tzinfo is not None:
            return int(found.timestamp() * 1_000)
    elif isinstance(given, (str, int, float)) and not isinstance(given, bool):
        number = float(given)
        if 0 <= number < _FIRST_MS * 10_000:
            return round(number if number >= _FIRST_MS else number * 1_000)
    raise LineError("now is not a time: write epoch seconds, epoch ms or ISO 8601 with offset")
