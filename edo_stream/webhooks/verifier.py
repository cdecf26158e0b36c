"""What a compiled scheme is, and the one place where its refusals become answers."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from edo_stream.webhooks.request import Request
from edo_stream.webhooks.verdict import (
    SECRET_MISSING,
    SECRET_UNUSABLE,
    Accepted,
    Answer,
    Needed,
    NeededError,
    RefusedError,
    Rejected,
)

Keys = Sequence[tuple[int, Any]]
"""Number of the secret, from 0, and the key that the scheme has made of it."""


class Verifier(msgspec.Struct, frozen=True):
    """A scheme with its options.

    ``read_key`` turns a secret's text into a key once, or raises ``ValueError`` with what to
    write instead; ``check`` judges a request and raises ``RefusedError`` or ``NeededError``.
    """

    read_key: Callable[[str], Any]
    check: Callable[[Keys, Request, int], Accepted]
    needs_secret: bool = True


def read_keys(verifier: Verifier, secrets: Sequence[str]) -> tuple[Keys, list[str]]:
    """Make keys of the secrets that can be used; say of the others why not, by number from 1."""
    keys, problems = [], []
    for number, secret in enumerate(secrets):
        try:
            keys.append((number, verifier.read_key(secret)))
        except ValueError as error:
            problems.append(f"secret {number + 1}: {error}")
    return keys, problems


def verify(verifier: Verifier, secrets: Sequence[str], request: Request, now_ms: int) -> Answer:
    """Judge one request with secrets as texts."""
    keys, problems = read_keys(verifier, secrets)
    if problems and not keys:
        return Rejected(SECRET_UNUSABLE, "; ".join(problems))
    return judge(verifier, keys, request, now_ms)


def judge(verifier: Verifier, keys: Keys, request: Request, now_ms: int) -> Answer:
    """Judge one request; ``now_ms`` is epoch ms."""
    if verifier.needs_secret and not keys:
        return Rejected(SECRET_MISSING, "no secret is configured, so nobody is believed")
    try:
        return verifier.check(keys, request, now_ms)
    except RefusedError as refused:
        return Rejected(refused.cause, refused.detail)
    except NeededError as needed:
        return Needed(needed.url)
