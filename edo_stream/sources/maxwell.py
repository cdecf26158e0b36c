"""Row changes of MySQL as Maxwell's daemon writes them to Kafka.

A record says what happened to one row, and where in the binlog, if Maxwell is told to
(``output_binlog_position``); ``output_xoffset`` tells rows of one statement apart that have no
primary key.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from edo_stream.core.contract import Contract
from edo_stream.core.event import Decoded, Event, Ignored, Violation
from edo_stream.core.record import Record
from edo_stream.sources.attributes import has_forbidden_characters
from edo_stream.sources.cloudevents import CORE_HEADERS
from edo_stream.sources.json_data import parse
from edo_stream.sources.log_position import position_of
from edo_stream.sources.order import key_reader, needs_position
from edo_stream.sources.refused import INVALID, RefusedError

_VERBS: Final = {
    "insert": "created",
    "update": "updated",
    "delete": "deleted",
    "bootstrap-insert": "read",
}
_IGNORED: Final = frozenset({"bootstrap-start", "bootstrap-complete"})


def decoder(contract: Contract) -> Callable[[Record], Decoded]:
    """Compile the decoder of a topic whose contract says ``codec: maxwell``."""
    read_key = key_reader(contract)
    is_position_needed = needs_position(contract)

    def event_of(record: Record, change: dict[str, Any]) -> Event:
        headers: Sequence[tuple[str, Any]] = record.headers
        verb = _VERBS.get(_text(change, "type"))
        if verb is None:
            raise RefusedError(INVALID, f"type is none of {', '.join(_VERBS)}")
        database, table = _text(change, "database"), _text(change, "table")
        place, row = _text(change, "position"), _number(change, "xoffset")
        file, _, at = place.rpartition(":")
        position = position_of("mysql", {"file": file, "pos": at, "row": row})
        if position is None and is_position_needed:
            raise RefusedError(INVALID, "position is not <file>:<offset> of a binlog")
        key = (record.key or b"").decode("utf-8", "replace")
        subject = None if not key or has_forbidden_characters(key) else key
        return Event(
            id=f"maxwell:{database}.{table}:{place}:{row}:{verb}:{subject}",
            source=f"/maxwell/{database}",
            type=f"{database}.{table}.{verb}",
            key=read_key(record.key, subject, change),
            data=record.value,
            content_type="application/json",
            subject=subject,
            time_ms=_number(change, "ts") * 1_000,
            position=position,
            extensions=tuple([item for item in headers if item[0] not in CORE_HEADERS]),
        )

    def decode(record: Record) -> Decoded:
        if record.value is None:
            return Ignored("tombstone")
        try:
            change = parse(record.value)
            if not isinstance(change, dict):
                raise RefusedError(INVALID, "value is not an object")
            if _text(change, "type") in _IGNORED:
                return Ignored("bootstrap")
            return event_of(record, change)
        except RefusedError as refused:
            return Violation(refused.reason, refused.detail, record.key)

    return decode


def _text(change: dict[str, Any], name: str) -> str:
    value = change.get(name)
    if isinstance(value, str) and value and not has_forbidden_characters(value):
        return value
    raise RefusedError(INVALID, f"{name} is missing, empty or not a text")


def _number(change: dict[str, Any], name: str) -> int:
    value = change.get(name, 0)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40:
        return value
    raise RefusedError(INVALID, f"{name} is not a whole number")
