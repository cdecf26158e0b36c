"""Notices: CloudEvents of the pipeline itself, about gaps that it skipped and operations."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec

from edo_stream.core.effects import Publish
from edo_stream.core.event import derive_id
from edo_stream.core.headers import JSON_CONTENT, SPECVERSION, Header, time_text, utf8
from edo_stream.core.task import InternalTopics, TaskIdentity

#: A notice repeats the key thrice and must fit its topic whatever the key.
_KEY_BYTES_MAX: Final = 4_096
_DATA_BYTES_MAX: Final = 256 * 1024


class Notices:
    """Builds the records of one task for the internal topic of gaps."""

    def __init__(self, identity: TaskIdentity, internal: InternalTopics) -> None:
        self._identity = identity
        self._topic = internal.gaps
        self._partition = identity.partition % internal.gaps_partitions
        self._source = ("ce_source", utf8(f"/edo/{identity.app}"))

    def gap(
        self, topic: str, key: bytes, missing: tuple[int, int], reason: str, now_ms: int
    ) -> Publish:
        """Tell that the numbers from first to last of a key were given up."""
        first, last = missing
        app, partition = self._identity.app, self._identity.partition
        notice_id = derive_id("gap", app, topic, str(partition), key.hex(), str(first), str(last))
        data = {
            "topic": topic,
            "partition": partition,
            "key": key_json(key),
            "first": first,
            "last": last,
            "reason": reason,
            "at": now_ms,
        }
        return self._notice("edo.gap.skipped", notice_id, key, data, now_ms)

    def outcome(
        self,
        offset: int,
        key: bytes | None,
        request: Mapping[str, Any],
        refusal: str | None,
        now_ms: int,
    ) -> Publish:
        """Tell what became of the operator's request at this offset of the control topic."""
        app, group, partition = self._identity.app, self._identity.group, self._identity.partition
        notice_id = derive_id("operation", app, group, str(partition), str(offset))
        data = {**request, "partition": partition, "offset": offset, "at": now_ms}
        if refusal is not None:
            data["reason"] = refusal
        kind = "edo.operation.done" if refusal is None else "edo.operation.refused"
        return self._notice(kind, notice_id, key, data, now_ms)

    def _notice(
        self, kind: str, notice_id: str, key: bytes | None, data: Mapping[str, Any], now_ms: int
    ) -> Publish:
        headers: list[Header] = [
            SPECVERSION,
            ("ce_id", notice_id.encode()),
            self._source,
            ("ce_type", kind.encode()),
            ("ce_time", time_text(now_ms)),
            JSON_CONTENT,
        ]
        if key is not None:
            key = key if len(key) <= _KEY_BYTES_MAX else key_text(key).encode()
            headers.insert(4, ("ce_subject", utf8(key_text(key))))
        value = msgspec.json.encode(data)
        if len(value) > _DATA_BYTES_MAX:
            # An operator's own request, too big to be repeated; its offset names it.
            kept = {
                name: data[name] for name in ("partition", "offset", "at", "reason") if name in data
            }
            value = msgspec.json.encode(kept)
        return Publish(self._topic, self._partition, key, value, headers, now_ms)


def key_json(key: bytes) -> str | dict[str, str]:
    """Key for JSON: text, or ``{"base64": …}`` when it is none; as operators write it.

    A key too long to be repeated is named by its digest: ``{"sha256": …}``.
    """
    if len(key) > _KEY_BYTES_MAX:
        return {"sha256": sha256(key).hexdigest()}
    try:
        return key.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(key).decode()}


def key_text(key: bytes) -> str:
    """Key for people: itself, its base64 when it is no text, its digest when it is too long."""
    text = key_json(key)
    return text if isinstance(text, str) else next(iter(text.values()))
