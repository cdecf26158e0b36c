"""The state of a key over HTTP: ``GET /edo/state/<flow>/<key>``.

What is asked comes in the path and the query; the answer is a document in JSON, and in headers the
last record that was applied of each input (``Edo-Applied``) and where the owner is (``Location``).
"""

from base64 import b64decode
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from edo_stream.engine.read_model import (
    BAD_REQUEST,
    NOT_IN_TIME,
    UNAVAILABLE,
    Answer,
    MinOffset,
    Question,
    ReadModel,
)
from edo_stream.engine.worker import EdoApp

PATH: Final = "/edo/state"
WAIT_S_MAX: Final = 10.0
LIMIT_MAX: Final = 1_000
_MIN_OFFSETS_MAX: Final = 100
_CURSOR_CHARS_MAX: Final = 8_192
_OFFSET_MAX: Final = 2**63
_TEXT: Final = "utf-8"
_BASE64: Final = "base64"


def add_state_page(app: EdoApp, model: ReadModel) -> None:
    """Serve the states of this worker, and say where those of others are."""

    async def view(web: Any, request: Any, flow: str, key: str) -> Any:
        del flow, key  # Decoded, and a key of bytes that are no text is not.
        _, _, _, flow_part, key_part = request.rel_url.raw_path.split("/", 4)
        parameters = request.query.items()
        try:
            question = question_of(flow_part, key_part, parameters)
        except ValueError as error:
            answer = Answer(BAD_REQUEST, {"reason": "invalid", "detail": str(error)})
        else:
            answer = await model.answer(question)
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        if answer.owner is not None:
            headers["Location"] = answer.owner.rstrip("/") + str(request.rel_url)
        if answer.applied:
            headers["Edo-Applied"] = ", ".join(f"{t}:{p}:{o}" for t, p, o in answer.applied)
        if answer.status in (UNAVAILABLE, NOT_IN_TIME):
            headers["Retry-After"] = "1"
        body = msgspec.json.encode(answer.document)
        return web.bytes(body, status=answer.status, headers=headers)

    app.page(f"{PATH}/{{flow}}/{{key}}", name=PATH)(view)


def question_of(flow: str, key: str, parameters: Iterable[tuple[str, str]]) -> Question:
    """Read a request: flow and key as they stand in the path, and the query's parameters.

    Raises:
        ValueError: it is none; says what to write.
    """
    min_offsets: list[MinOffset] = []
    found = {"wait": "5", "events": "100", "after": "", "encoding": _TEXT}
    for name, value in parameters:
        if name == "min_offset":
            min_offsets += [_min_offset(one) for one in value.split(",")]
        elif name in found:
            found[name] = value
        else:
            known = ", ".join(("min_offset", *found))
            raise ValueError(f"{name[:100]} is no parameter: known are {known}")
    if len(min_offsets) > _MIN_OFFSETS_MAX:
        raise ValueError(f"min_offset: {_MIN_OFFSETS_MAX} at most, found {len(min_offsets)}")
    return Question(
        flow=unquote_to_bytes(flow).decode(_TEXT, "replace"),
        key=_key(key, found["encoding"]),
        min_offsets=min_offsets,
        wait_s=_wait_s(found["wait"]),
        limit=_limit(found["events"]),
        after=_place(found["after"]),
    )


def _key(text: str, encoding: str) -> bytes:
    if encoding == _TEXT:
        return unquote_to_bytes(text)
    if encoding != _BASE64:
        raise ValueError(f"encoding={encoding[:20]}: write {_TEXT} or {_BASE64}")
    try:
        return b64decode(unquote_to_bytes(text), altchars=b"-_", validate=True)
    except ValueError as error:
        raise ValueError(f"the key is no base64 in its form for URLs: {error}") from None


def _min_offset(text: str) -> MinOffset:
    topic, _, rest = text.partition(":")
    partition, _, offset = rest.partition(":")
    numbers = partition, offset
    if not (topic and all(one.isascii() and one.isdigit() and len(one) < 20 for one in numbers)):
        raise ValueError(f"min_offset={text[:300]}: write topic:partition:offset")
    if int(offset) >= _OFFSET_MAX:
        raise ValueError(f"min_offset={text[:300]}: there is no such offset")
    return MinOffset(topic, int(partition), int(offset))


def _wait_s(text: str) -> float:
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = -1.0
    if not 0 <= wait_s <= WAIT_S_MAX:
        raise ValueError(f"wait={text[:20]}: write seconds, {WAIT_S_MAX:g} at most")
    return wait_s


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= LIMIT_MAX):
        raise ValueError(f"events={text[:20]}: write a number from 1 to {LIMIT_MAX}")
    return int(text)


def _place(text: str) -> bytes:
    try:
        return bytes.fromhex(text[:_CURSOR_CHARS_MAX])
    except ValueError:
        raise ValueError(f"after={text[:20]}: write what next said") from None
