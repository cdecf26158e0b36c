"""`edo query`: the state of one key, from the worker that owns it."""

import json
import re
import time
import urllib.error
import urllib.request
from base64 import urlsafe_b64encode
from http.client import HTTPResponse
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import typer

from edo_stream.cli.environment import CommandError, own_settings
from edo_stream.cli.operate import (
    NOT_DONE,
    UNREACHABLE,
    USAGE,
    AsJson,
    Key,
    KeyBase64,
    key_bytes,
    readable,
)

_PLAIN: Final = re.compile(rb"[A-Za-z0-9_~-][A-Za-z0-9_.~-]*")
_REDIRECTS_MAX: Final = 5
_WAIT_S_MAX: Final = 10.0
_AGAIN_S: Final = 0.3
_ANSWER_S: Final = 5.0
"""For an answer, besides what it waits for."""
_OK, _REDIRECT, _BAD_REQUEST, _NOT_FOUND, _UNAVAILABLE, _NOT_IN_TIME = 200, 307, 400, 404, 503, 504
_BODY_BYTES_MAX: Final = 64 << 20


def query(  # noqa: PLR0913 - options
    flow: Annotated[str, typer.Argument(help="Name of a flow that waits, or of a saga.")],
    key: Key = None,
    key_base64: KeyBase64 = None,
    min_offset: Annotated[
        list[str] | None,
        typer.Option(
            "--min-offset",
            metavar="TOPIC:PARTITION:OFFSET",
            help="Answer only once this record has had its effect; again for another.",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0, max=3_600, help="Seconds to wait for that, and for an owner.")
    ] = 10.0,
    worker: Annotated[
        str | None, typer.Option(help="Address of any worker; default: the one of this machine.")
    ] = None,
    after: Annotated[
        str | None, typer.Option(help="Show the events behind these: what next said.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the committed state of a key; any worker says which one has it.

    Exit codes: 0 it is shown; 1 nothing is known of the key; 2 wrong usage; 3 no worker has
    answered, or not in time.
    """
    name = key_bytes(key, key_base64)
    settings = own_settings()
    address = (worker or settings.advertised_url).rstrip("/")
    if urlsplit(address).scheme not in {"http", "https"}:
        raise CommandError(f"--worker {address}: write http://host:port", USAGE)
    parameters = [("min_offset", one) for one in min_offset or ()]
    if after is not None:
        parameters.append(("after", after))
    path = f"/edo/state/{quote(flow, safe='')}/{_in_path(name, parameters)}"
    status, document = _answer(address, path, parameters, timeout)
    if status == _OK:
        _show(document, as_json=as_json)
        return
    why = f"{document.get('detail', document)}"
    if status == _NOT_FOUND:
        raise CommandError(f"{flow}, key {readable(name)}: {why}", NOT_DONE)
    if status == _BAD_REQUEST:
        raise CommandError(why, USAGE)
    if status == _NOT_IN_TIME:
        why = f"not applied within {timeout:g} s"  # A worker was asked for a part of it at a time.
    raise CommandError(f"{why} ({document.get('reason', status)})", UNREACHABLE)


def _in_path(key: bytes, parameters: list[tuple[str, str]]) -> str:
    """A key as a part of a path that nobody takes for anything else."""
    if _PLAIN.fullmatch(key):
        return key.decode()
    parameters.append(("encoding", "base64"))
    return urlsafe_b64encode(key).decode()


def _answer(
    address: str, path: str, parameters: list[tuple[str, str]], timeout_s: float
) -> tuple[int, dict[str, Any]]:
    """The last answer within the time: who restores its state, or waits, is asked again."""
    end_s = time.monotonic() + timeout_s
    while True:
        left_s = max(0.0, end_s - time.monotonic())
        wait_s = min(left_s, _WAIT_S_MAX)
        asked = urlencode([*parameters, ("wait", f"{wait_s:.3f}")])
        status, document = _follow(f"{address}{path}?{asked}", wait_s + _ANSWER_S)
        if status in (_OK, _BAD_REQUEST, _NOT_FOUND) or left_s <= _AGAIN_S:
            return status, document
        if status != _NOT_IN_TIME:
            time.sleep(_AGAIN_S)


def _follow(address: str, timeout_s: float) -> tuple[int, dict[str, Any]]:
    """Ask, and ask who has the key instead."""
    for number in range(_REDIRECTS_MAX):
        try:
            status, document, owner = _ask(address, timeout_s)
        except CommandError as error:
            if number == 0:
                raise
            # It may have ended, and the group will say who has the key instead.
            return _UNAVAILABLE, {"reason": "no-answer", "detail": str(error)}
        if status != _REDIRECT:
            return status, document
        if owner is None or urlsplit(owner).scheme not in {"http", "https"}:
            raise CommandError(f"{_host(address)} names no owner: {owner}", UNREACHABLE)
        address = owner
    detail = "workers do not agree about who has it: partitions are dealt out anew"
    return _REDIRECT, {"reason": "rebalancing", "detail": detail}


def _ask(address: str, timeout_s: float) -> tuple[int, dict[str, Any], str | None]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Unfollowed)
    try:
        try:
            with opener.open(address, timeout=timeout_s) as answer:
                return answer.status, _read(answer), None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _read(error), error.headers.get("Location")
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise CommandError(
            f"no answer from {_host(address)}: {reason}. --worker names another, and EDO_WEB_URL "
            "is where a worker says that it is",
            UNREACHABLE,
        ) from error


def _read(answer: HTTPResponse | urllib.error.HTTPError) -> dict[str, Any]:
    document = json.loads(answer.read(_BODY_BYTES_MAX))
    if not isinstance(document, dict):
        raise ValueError("not an answer of a worker")
    return document


class _Unfollowed(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _host(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _show(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(document))
        return
    for name, value in document.items():
        if value not in (None, [], {}):
            print(f"{name}: {value if isinstance(value, str) else json.dumps(value)}")
