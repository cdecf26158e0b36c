"""Shared secrets that are sent along: basic, bearer, API key. They prove who speaks, not what."""

import base64
import hmac
from collections.abc import Callable
from typing import Final

from edo_stream.webhooks.content import id_text
from edo_stream.webhooks.mac import text_key
from edo_stream.webhooks.options import Auth, Options
from edo_stream.webhooks.request import Request
from edo_stream.webhooks.verdict import (
    CREDENTIALS_MISSING,
    CREDENTIALS_WRONG,
    Accepted,
    RefusedError,
)
from edo_stream.webhooks.verifier import Keys, Verifier

DEFAULT_HEADER: Final = "X-API-Key"

Find = Callable[[Request], bytes | None]
"""The secret that a request has with it; ``None`` without one."""


def basic(options: Options) -> Verifier:
    """Compile HTTP's basic scheme; a secret is ``user:password``."""
    return _verifier(options, _basic, _read_pair)


def bearer(options: Options) -> Verifier:
    """Compile HTTP's bearer scheme; a secret is a token."""
    return _verifier(options, _bearer, text_key)


def api_key(options: Options) -> Verifier:
    """Compile a key in a header, or in a query parameter if the options say so."""
    return _verifier(options, _key_finder(options), text_key)


def shared_secret(options: Options) -> Callable[[Keys, Request], int]:
    """Compile what the clouds' push may use: any of these, or the one of ``auth``."""
    finders: dict[Auth, Find] = {
        "api-key": _key_in_header(options),
        "query": _key_in_query(options.query or "code"),
        "basic": _basic,
        "bearer": _bearer,
    }
    ways = [*finders.values()] if options.auth is None else [finders[options.auth]]

    def find_number(keys: Keys, request: Request) -> int:
        given = [found for found in (way(request) for way in ways) if found is not None]
        return _number(keys, given)

    return find_number


def _verifier(options: Options, find: Find, read_key: Callable[[str], bytes]) -> Verifier:
    id_header = None if options.id_header is None else options.id_header.lower().encode()

    def check(keys: Keys, request: Request, now_ms: int) -> Accepted:
        found = find(request)
        number = _number(keys, [] if found is None else [found])
        event_id = None if id_header is None else id_text(request.headers.get(id_header))
        # Whoever has the secret may say anything: the id is as good as the body.
        return Accepted(number, event_id)

    return Verifier(read_key, check)


def _number(keys: Keys, given: list[bytes]) -> int:
    if not given:
        raise RefusedError(CREDENTIALS_MISSING, "there is no password, token or key")
    fitting = [number for number, key in keys for found in given if hmac.compare_digest(key, found)]
    if not fitting:
        raise RefusedError(CREDENTIALS_WRONG, "the password, token or key is none of the secrets")
    return fitting[0]


def _key_finder(options: Options) -> Find:
    return _key_in_header(options) if options.query is None else _key_in_query(options.query)


def _key_in_header(options: Options) -> Find:
    name = (options.header or DEFAULT_HEADER).lower().encode()
    prefix = options.prefix.encode()

    def find(request: Request) -> bytes | None:
        value = request.headers.get(name)
        return value.removeprefix(prefix) if value and value.startswith(prefix) else None

    return find


def _key_in_query(name: str) -> Find:
    return lambda request: request.parameter(name) or None


def _bearer(request: Request) -> bytes | None:
    return _authorization(request, b"bearer")


def _basic(request: Request) -> bytes | None:
    value = _authorization(request, b"basic")
    if value is None:
        return None
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        # Like a wrong password: it is none of the secrets.
        return b""


def _authorization(request: Request, scheme: bytes) -> bytes | None:
    value = request.headers.get(b"authorization") or b""
    name, _, rest = value.partition(b" ")
    return rest.strip() or None if name.lower() == scheme else None


def _read_pair(secret: str) -> bytes:
    user, separator, password = secret.partition(":")
    if not (user and separator and password):
        raise ValueError("is not user:password")
    return text_key(secret)
