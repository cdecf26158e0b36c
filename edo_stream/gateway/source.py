"""One source, compiled: how its requests are judged, bounded and read."""

from collections.abc import Mapping

from edo_stream.gateway.admission import Bucket
from edo_stream.gateway.content import (
    CONTENT_TYPES,
    SNS_CONTENT_TYPES,
    ReadRecords,
    body_of,
    records_reader,
)
from edo_stream.gateway.declaration import Source
from edo_stream.gateway.keyring import Keyring
from edo_stream.webhooks.schemes import verifier
from edo_stream.webhooks.verdict import Accepted
from edo_stream.webhooks.verifier import Verifier

_MEDIA_MAX = 256
"""Content types whose judgement is remembered: a stranger chooses them."""


class CompiledSource:
    """One source, compiled."""

    def __init__(self, name: str, declared: Source, environ: Mapping[str, str]) -> None:
        self.name = name
        self.topic = declared.topic
        self.confirms = declared.confirm
        self.size_max = declared.size
        self.networks = declared.networks
        self.verifier = _verifier(declared)
        self.keyring = Keyring(name, self.verifier, declared.verify.secrets, environ)
        self.read: ReadRecords = records_reader(name, declared)
        self.handshakes = body_of(declared) in ("cloudevents", "event-grid")
        scheme = declared.verify.scheme
        default = SNS_CONTENT_TYPES if scheme == "sns" else CONTENT_TYPES[body_of(declared)]
        self._content_types = default if declared.content_types is None else declared.content_types
        self._media: dict[bytes, bool] = {}
        self.bucket = (
            None
            if declared.rate is None
            else Bucket(declared.rate, declared.burst or max(1.0, declared.rate))
        )

    def takes(self, content_type: bytes) -> bool:
        """Whether a body of this type is wanted."""
        known = self._media.get(content_type)
        if known is None:
            # Whoever reads the event could not read a type that is not ASCII.
            known = content_type.isascii() and any(
                _is_media(content_type, wanted) for wanted in self._content_types
            )
            if len(self._media) < _MEDIA_MAX:
                self._media[content_type] = known
        return known


def _verifier(declared: Source) -> Verifier:
    if declared.verify.scheme == "none":
        return Verifier(str, lambda keys, request, now_ms: Accepted(), needs_secret=False)
    return verifier(declared.verify.scheme, declared.verify.options())


def _is_media(content_type: bytes, wanted: str) -> bool:
    media = content_type.partition(b";")[0].strip().lower().decode("latin-1")
    kind, _, name = media.partition("/")
    wanted_kind, _, wanted_name = wanted.partition("/")
    if wanted_kind not in ("*", kind):
        return False
    if wanted_name.startswith("*+"):
        return name.endswith(wanted_name[1:])
    return wanted_name in ("*", name)
