"""Options of the schemes, and which of them mean something with which scheme."""

from typing import Final, Literal

import msgspec

Encoding = Literal["hex", "base64", "base64url"]
Algorithm = Literal["sha1", "sha256", "sha384", "sha512"]
SecretEncoding = Literal["text", "base64", "hex"]
TimestampUnit = Literal["s", "ms"]
Auth = Literal["api-key", "basic", "bearer", "query"]

WINDOW_MS: Final = 300_000


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All options; ``None`` is the scheme's own default."""

    window_ms: int | None = None
    """How old a signature may be, and how far in the future; both ways."""
    header: str | None = None
    """Header of the signature, or of the API key."""
    prefix: str = ""
    """Text before the signature or key in its header, such as ``sha256=``."""
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    secret_encoding: SecretEncoding = "text"  # noqa: S105 - how a secret is written
    template: str = "{body}"
    """What is signed: text with ``{body}``, ``{timestamp}``, ``{id}`` or ``{header:NAME}``."""
    timestamp_header: str | None = None
    timestamp_unit: TimestampUnit = "s"
    id_header: str | None = None
    auth: Auth | None = None
    """How the clouds' push proves itself; ``None`` takes any that fits."""
    query: str | None = None
    """Query parameter that has the key."""
    topic_arns: tuple[str, ...] = ()
    audience: str | None = None
    email: str | None = None


_SIGNED: Final = frozenset({"window_ms"})
_SHARED: Final = frozenset({"auth", "header", "query"})

MEANINGFUL: Final[dict[str, frozenset[str]]] = {
    "standard-webhooks": _SIGNED,
    "svix": _SIGNED,
    "stripe": _SIGNED,
    "slack": _SIGNED,
    "github": frozenset(),
    "shopify": frozenset(),
    "hmac": frozenset(
        {
            "window_ms",
            "header",
            "prefix",
            "algorithm",
            "encoding",
            "secret_encoding",
            "template",
            "timestamp_header",
            "timestamp_unit",
            "id_header",
        }
    ),
    "basic": frozenset({"id_header"}),
    "bearer": frozenset({"id_header"}),
    "api-key": frozenset({"header", "prefix", "query", "id_header"}),
    "eventbridge": _SHARED,
    "sns": frozenset({"window_ms", "topic_arns"}),
    "event-grid": _SHARED,
    "pubsub": frozenset({"window_ms", "audience", "email"}),
    "minio": frozenset(),
}
"""Scheme to its options; a name that is not here is no scheme."""
