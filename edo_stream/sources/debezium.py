"""Row changes as Debezium writes them: the JSON envelope, with or without its schema.

Theory of operation. An event is one change of one row. Its id derives from the position in the
database's log, so that a change that Debezium repeats after a crash has the same id, and no two
changes share one. Its position is the log position as one integer, see :mod:`.log_position`.
Its data is the bare envelope, byte for byte as the connector wrote it.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
import orjson

from edo_stream.core.contract import Contract
from edo_stream.core.event import Decoded, Event, Ignored, Violation
from edo_stream.core.record import Record
from edo_stream.sources.attributes import has_forbidden_characters
from edo_stream.sources.cloudevents import CORE_HEADERS
from edo_stream.sources.json_data import parse
from edo_stream.sources.log_position import place_of, position_of
from edo_stream.sources.order import key_is_in_data, key_reader, needs_position
from edo_stream.sources.refused import INVALID, UNDECODABLE, RefusedError

_ABSENT: Final = msgspec.Raw(b"")
#: Operations as the envelope writes them, a JSON string of one letter.
_VERBS: Final = {b'"c"': "created", b'"u"': "updated", b'"d"': "deleted", b'"r"': "read"}
#: Those that are no change of a row.
_OTHER: Final = {b'"t"': "truncate", b'"m"': "message"}
_CONTENT_TYPE: Final = "application/json"
#: A longer key enters the id as its digest: ids travel in headers and in state.
_KEY_CHARACTERS_MAX: Final = 200


class _Envelope(msgspec.Struct, gc=False):
    """Members of the envelope, unparsed; or, where the record has its schema, its payload."""

    op: msgspec.Raw = _ABSENT
    source: msgspec.Raw = _ABSENT
    before: msgspec.Raw = _ABSENT
    after: msgspec.Raw = _ABSENT
    ts_ms: msgspec.Raw = _ABSENT
    transaction: msgspec.Raw = _ABSENT
    schema: msgspec.Raw = _ABSENT
    payload: msgspec.Raw = _ABSENT


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


def decoder(contract: Contract) -> Callable[[Record], Decoded]:
    """Compile the decoder of a topic whose contract says ``codec: debezium``."""
    event_of = _event_reader(contract)

    def decode(record: Record) -> Decoded:
        value = record.value
        if value is None:
            # Follows the delete of the same key, for compaction; the delete was the fact.
            return Ignored("tombstone")
        try:
            envelope, data = _envelope(value)
            ignored = _ignored(envelope)
            return event_of(record, envelope, data) if ignored is None else Ignored(ignored)
        except RefusedError as refused:
            # Position unknown: Debezium orders by the log, which waits for no number.
            return Violation(refused.reason, refused.detail, record.key)

    return decode


def _event_reader(contract: Contract) -> Callable[[Record, _Envelope, bytes], Event]:
    read_key = key_reader(contract)
    is_parsed = key_is_in_data(contract)
    is_position_needed = needs_position(contract)

    def read(record: Record, envelope: _Envelope, data: bytes) -> Event:
        verb = _verb(envelope)
        source = _source(envelope)
        connector, name = _required(source, "connector"), _required(source, "name")
        database = _required(source, "db") if source.get("db") else name
        table = _table(source)
        key_text = _key_text(record.key)
        headers: Sequence[tuple[str, Any]] = record.headers
        position = position_of(connector, source)
        if position is None and is_position_needed:
            raise RefusedError(INVALID, f"no position: source of {connector} has none that is read")
        return Event(
            id=f"{connector}:{table}:{_place(connector, source)}:{verb}"
            f":{_identity(key_text, envelope)}",
            source=f"/debezium/{connector}/{name}",
            type=f"{database}.{table}.{verb}",
            key=read_key(record.key, key_text, parse(data) if is_parsed else None),
            data=data,
            content_type=_CONTENT_TYPE,
            subject=key_text,
            time_ms=_time_ms(source),
            position=position,
            extensions=tuple(item for item in headers if item[0] not in CORE_HEADERS),
        )

    return read


def _envelope(value: bytes) -> tuple[_Envelope, bytes]:
    """The envelope and its bytes, taken out of ``{"schema": …, "payload": …}`` if it is in one."""
    try:
        value.decode()
        envelope = _ENVELOPE.decode(value)
        if not _has_schema(envelope):
            return envelope, value
        payload = bytes(envelope.payload)
        return _ENVELOPE.decode(payload), payload
    except msgspec.ValidationError:
        raise RefusedError(UNDECODABLE, "value is not a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedError(UNDECODABLE, "value is not well-formed JSON") from None


def _has_schema(envelope: _Envelope) -> bool:
    # A bare row may have columns of these names; a schema is an object.
    return bool(envelope.payload) and bytes(envelope.schema).startswith(b"{")


def _ignored(envelope: _Envelope) -> str | None:
    """Why the record carries no change of a row; ``None`` if it does."""
    if envelope.op:
        return _OTHER.get(bytes(envelope.op))
    if envelope.ts_ms and not (envelope.source or envelope.before or envelope.after):
        return "heartbeat"
    return None


def _verb(envelope: _Envelope) -> str:
    verb = _VERBS.get(bytes(envelope.op))
    if verb is None:
        found = "unknown" if envelope.op else "missing"
        raise RefusedError(INVALID, f"op is {found}: expected one of c, u, d, r, t, m")
    return verb


def _source(envelope: _Envelope) -> dict[str, Any]:
    source = parse(envelope.source) if envelope.source else None
    if isinstance(source, dict):
        return source
    raise RefusedError(INVALID, "source is missing: a Debezium envelope says where it comes from")


def _required(source: dict[str, Any], name: str) -> str:
    value = source.get(name)
    if isinstance(value, str) and value and not has_forbidden_characters(value):
        return value
    raise RefusedError(INVALID, f"source.{name} is missing, empty or not a text")


def _table(source: dict[str, Any]) -> str:
    """``<schema>.<table>``, of what the connector's database has; a collection is a table."""
    schema = source.get("schema")
    table = _required(source, "collection" if "collection" in source else "table")
    return f"{_required(source, 'schema')}.{table}" if schema else table


def _time_ms(source: dict[str, Any]) -> int | None:
    time = source.get("ts_ms")
    return time if isinstance(time, int) and not isinstance(time, bool) else None


def _place(connector: str, source: dict[str, Any]) -> str:
    """The place in the log that an id derives from, as text."""
    place = place_of(connector, source)
    if place is not None:
        return place
    # A connector that is not known by its fields: all that it says of the place, in one digest.
    told = {
        name: value for name, value in source.items() if not name.startswith(("ts_", "version"))
    }
    return sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def _key_text(key: bytes | None) -> str | None:
    """The row's key for people: its JSON without schema, or the text, or the bytes in hex."""
    if not key:
        return None
    try:
        found = key.decode()
        parts = _ENVELOPE.decode(key)
        if _has_schema(parts):
            found = bytes(parts.payload).decode()
    except UnicodeDecodeError:
        return key.hex()
    except (msgspec.DecodeError, RecursionError):
        found = key.decode()
    return key.hex() if has_forbidden_characters(found) else found


def _identity(key_text: str | None, envelope: _Envelope) -> str:
    """What tells the changes at one place of the log apart: the key of the row.

    One log record may hold many rows (COPY), and a snapshot reads all at one place. Rows without
    a key are told apart by their number in the transaction, where the connector provides it,
    else by their content: identical rows of one bulk insert then count as one.
    """
    if key_text is None:
        number = _order_in_transaction(envelope)
        rows = bytes(envelope.before) + b"\x1f" + bytes(envelope.after)
        return sha256(rows).hexdigest()[:32] if number is None else f"#{number}"
    if len(key_text) > _KEY_CHARACTERS_MAX:
        return sha256(key_text.encode()).hexdigest()
    return key_text


def _order_in_transaction(envelope: _Envelope) -> int | None:
    transaction = parse(envelope.transaction) if envelope.transaction else None
    number = transaction.get("total_order") if isinstance(transaction, dict) else None
    return number if isinstance(number, int) else None
