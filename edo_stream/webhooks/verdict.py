"""Answers of a scheme, and the causes for which one says no."""

from collections.abc import Mapping
from typing import Final

import msgspec

HEADER_MISSING: Final = "header-missing"
HEADER_REPEATED: Final = "header-repeated"
SIGNATURE_MISSING: Final = "signature-missing"
SIGNATURE_MALFORMED: Final = "signature-malformed"
SIGNATURE_MISMATCH: Final = "signature-mismatch"
TIMESTAMP_MALFORMED: Final = "timestamp-malformed"
TIMESTAMP_TOO_OLD: Final = "timestamp-too-old"
TIMESTAMP_TOO_NEW: Final = "timestamp-too-new"
CREDENTIALS_MISSING: Final = "credentials-missing"
CREDENTIALS_WRONG: Final = "credentials-wrong"
CERTIFICATE_REFUSED: Final = "certificate-refused"
TOKEN_MALFORMED: Final = "token-malformed"  # noqa: S105 - a cause, not a password
TOKEN_REFUSED: Final = "token-refused"  # noqa: S105 - a cause, not a password
KEY_UNKNOWN: Final = "key-unknown"
TOPIC_REFUSED: Final = "topic-refused"
BODY_MALFORMED: Final = "body-malformed"
SECRET_MISSING: Final = "secret-missing"  # noqa: S105 - a cause, not a password
SECRET_UNUSABLE: Final = "secret-unusable"  # noqa: S105 - a cause, not a password
DOCUMENT_UNAVAILABLE: Final = "document-unavailable"

CAUSES: Final[Mapping[str, str]] = {
    HEADER_MISSING: "A header that the scheme needs is missing or empty",
    HEADER_REPEATED: "A header that the scheme needs is there more than once",
    SIGNATURE_MISSING: "The signature's header is missing or empty",
    SIGNATURE_MALFORMED: "The signature's header holds no signature of a known version",
    SIGNATURE_MISMATCH: "No signature fits the body and any of the secrets",
    TIMESTAMP_MALFORMED: "The timestamp is missing or not a time",
    TIMESTAMP_TOO_OLD: "Signed longer ago than the window allows: a replay, or a wrong clock",
    TIMESTAMP_TOO_NEW: "Signed further in the future than the window allows: a wrong clock",
    CREDENTIALS_MISSING: "There is no password, token or key where the scheme has it",
    CREDENTIALS_WRONG: "The password, token or key is none of the secrets",
    CERTIFICATE_REFUSED: "The signing certificate is not Amazon's, or cannot be read",
    TOKEN_MALFORMED: "The bearer token is not a signed JWT",
    TOKEN_REFUSED: "The bearer token is expired, or issued by or for somebody else",
    KEY_UNKNOWN: "The bearer token is signed with a key that is not in the key set",
    TOPIC_REFUSED: "Signed by SNS for a topic that is not among the allowed ones",
    BODY_MALFORMED: "The body is not what this provider sends",
    SECRET_MISSING: "No secret is configured",
    SECRET_UNUSABLE: "None of the secrets can be used with this scheme",
    DOCUMENT_UNAVAILABLE: "A certificate or key set could not be fetched",
}


class Reply(msgspec.Struct, frozen=True):
    """What a provider wants to be answered when it tests the endpoint."""

    status: int
    content_type: str
    body: bytes


class Accepted(msgspec.Struct, frozen=True):
    """The request comes from whom it should.

    ``reply`` and ``confirm_url`` say that it is a handshake, not an event: answer the one, or
    fetch the other and answer 200.
    """

    key: int = 0
    """Which of the secrets fitted, from 0."""
    event_id: str | None = None
    """The provider's id of the event, where it has one: the same for every redelivery."""
    is_id_signed: bool = True
    """Whether the proof covers the id; if not, it counts only together with the body."""
    signed_at_ms: int | None = None
    reply: Reply | None = None
    confirm_url: str | None = None


class Rejected(msgspec.Struct, frozen=True):
    """The request proves nothing. ``detail`` is for a person, without secrets or payload."""

    cause: str
    detail: str


class Needed(msgspec.Struct, frozen=True):
    """A document without which nothing can be said: fetch it, and ask again."""

    url: str


Verdict = Accepted | Rejected
Answer = Accepted | Rejected | Needed


class RefusedError(Exception):
    """How a scheme's readers say no; never leaves the package."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause
        self.detail = detail


class NeededError(Exception):
    """How a scheme's readers ask for a document; never leaves the package."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url
