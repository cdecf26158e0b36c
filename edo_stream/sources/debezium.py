"""What Debezium writes to Kafka, in JSON with or without its schema: row changes, and all else.

Theory of operation. A record is told by its shape, since one connector writes all of these:

==================  ======================================================================
envelope            ``op`` and ``source``: a change of a row (c, u, d, r), a truncated
                    table (t) or a logical message (m)
flattened           a row alone with ``__op`` or ``__deleted``, :mod:`.debezium_flat`
converted           Debezium's CloudEvents converter, :mod:`.debezium_converted`
schema change       ``ddl`` or ``tableChanges``, :mod:`.debezium_topics`
transaction         ``status`` BEGIN or END, :mod:`.debezium_topics`
ignored             tombstones, heartbeats, notifications: they carry no fact
==================  ======================================================================

An event is one fact. Ids and positions come from the log (:mod:`.debezium_change`). Its data is the
envelope without its schema; where the schema says what a value means, or a value is not there,
the rows are rewritten (:mod:`.debezium_rows`), and else the bytes are the connector's.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from edo_stream.core.contract import TRANSACTION_KEY, Contract
from edo_stream.core.event import Decoded, Ignored, Violation
from edo_stream.core.record import Record
from edo_stream.sources.debezium_change import (
    Change,
    Transaction,
    database_of,
    digest_of,
    finisher,
    identity_of,
    key_text,
    milliseconds,
    place_text,
    required,
    table_of,
    transaction_id_of,
)
from edo_stream.sources.debezium_converted import envelope_of, is_converted
from edo_stream.sources.debezium_flat import FLAT_HEADERS, flat_change, is_flat_delete
from edo_stream.sources.debezium_rows import MEMBERS, Rows
from edo_stream.sources.debezium_topics import Collections, collections_of, topic_change
from edo_stream.sources.json_data import parse
from edo_stream.sources.log_position import position_of
from edo_stream.sources.refused import INVALID, UNDECODABLE, RefusedError

_ABSENT: Final = msgspec.Raw(b"")
#: Operations as the envelope writes them, a JSON string of one letter.
_VERBS: Final = {
    b'"c"': "created",
    b'"u"': "updated",
    b'"d"': "deleted",
    b'"r"': "read",
    b'"t"': "truncated",
    b'"m"': "message",
}
#: A change of a primary key is a delete and a create; each names the other's key in a header.
_REKEYED: Final = frozenset({"__debezium.newkey", "__debezium.oldkey"})


class _Envelope(msgspec.Struct, gc=False):
    """Members by which a record is told, unparsed; or its schema and payload."""

    op: msgspec.Raw = _ABSENT
    source: msgspec.Raw = _ABSENT
    before: msgspec.Raw = _ABSENT
    after: msgspec.Raw = _ABSENT
    message: msgspec.Raw = _ABSENT
    transaction: msgspec.Raw = _ABSENT
    update: msgspec.Raw = msgspec.field(default=_ABSENT, name="updateDescription")
    schema: msgspec.Raw = _ABSENT
    payload: msgspec.Raw = _ABSENT
    flat_op: msgspec.Raw = msgspec.field(default=_ABSENT, name="__op")
    flat_deleted: msgspec.Raw = msgspec.field(default=_ABSENT, name="__deleted")


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


def decoder(contract: Contract) -> Callable[[Record], Decoded]:
    """Compile the decoder of a topic whose contract says ``codec: debezium``.

    Raises:
        MappingError: the contract's mapping has keys that mean nothing here, or wrong values.
    """
    read = _reader(Rows(contract), collections_of(contract))
    finish = finisher(contract)
    is_by_transaction = contract.order_key == TRANSACTION_KEY

    def decode(record: Record) -> Decoded:
        try:
            found = read(record)
            if is_by_transaction and isinstance(found, Change) and found.verb == "began":
                # The end says all that the begin does.
                return Ignored("transaction-begin")
            return finish(record, found) if isinstance(found, Change) else found
        except RefusedError as refused:
            # Position unknown: Debezium orders by the log, which waits for no number.
            return Violation(refused.reason, refused.detail, record.key)

    return decode


def _reader(rows: Rows, collections: Collections) -> Callable[[Record], Change | Ignored]:
    def read(record: Record) -> Change | Ignored:
        value = record.value
        if value is None:
            # Follows the delete of the same key, for compaction; the delete was the fact.
            is_delete = is_flat_delete(record)
            return flat_change(record, b"{}", {}) if is_delete else Ignored("tombstone")
        envelope, schema, payload = _envelope(value)
        if payload == b"null":
            # A null that has a type: so the flattening transformation writes a delete.
            is_delete = schema != b"null"
            return flat_change(record, b"{}", {}) if is_delete else Ignored("tombstone")
        if envelope.op and envelope.source:
            return _change(record, envelope, rows, schema, payload)
        if _is_flat(record, envelope):
            data = rows.of_flat(schema, payload)
            return flat_change(record, data, _members(payload))
        members = _members(payload)
        if is_converted(members):
            whole = envelope_of(MEMBERS.decode(payload), members)
            return _change(record, _ENVELOPE.decode(whole), rows, b"", whole)
        return topic_change(record, members, payload, collections)

    return read


def _envelope(value: bytes) -> tuple[_Envelope, bytes, bytes]:
    """The parts, the schema and the bytes of a record; both forms of Connect's JSON converter."""
    try:
        value.decode()
        envelope = _ENVELOPE.decode(value)
        if not _has_schema(envelope):
            return envelope, b"", value
        schema, payload = bytes(envelope.schema), bytes(envelope.payload)
        if payload == b"null":
            return envelope, schema, payload
        return _ENVELOPE.decode(payload), schema, payload
    except msgspec.ValidationError:
        if value.strip() == b"null":
            return _Envelope(), b"", b"null"
        raise RefusedError(UNDECODABLE, "value is not a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedError(UNDECODABLE, "value is not well-formed JSON") from None


def _has_schema(envelope: _Envelope) -> bool:
    # A bare row may have columns of these names; a schema is an object, or null with a null.
    if not envelope.payload:
        return False
    schema = bytes(envelope.schema)
    return schema.startswith(b"{") or (schema == b"null" and bytes(envelope.payload) == b"null")


def _is_flat(record: Record, envelope: _Envelope) -> bool:
    if envelope.flat_op or envelope.flat_deleted:
        return True
    return any(name in FLAT_HEADERS for name, _ in record.headers)


def _members(payload: bytes) -> dict[str, Any]:
    found = parse(payload)
    assert isinstance(found, dict), "the payload was an object"
    return found


def _change(
    record: Record, envelope: _Envelope, rows: Rows, schema: bytes, payload: bytes
) -> Change:
    source = parse(envelope.source)
    if not isinstance(source, dict):
        raise RefusedError(INVALID, "source is not an object: expected where the change comes from")
    verb = _VERBS.get(bytes(envelope.op))
    if verb is None:
        raise RefusedError(INVALID, "op is unknown: expected one of c, u, d, r, t, m")
    connector, name = required(source, "connector"), required(source, "name")
    table = _prefix(envelope) if verb == "message" else table_of(source)
    is_of_row = verb not in ("message", "truncated")
    subject = key_text(record.key) if is_of_row else table
    place = place_text(connector, source)
    transaction = _transaction(envelope)
    number = None if transaction is None else transaction.number
    is_document = connector == "mongodb"
    convert = rows.of_document if is_document else lambda raw: rows.of_envelope(schema, raw)
    identity = _identity(subject, number, envelope)
    if is_document and envelope.update:
        # All changes of a transaction have one place, also those of one document.
        identity += ":" + digest_of(bytes(envelope.update))[:12]
    return Change(
        connector=connector,
        name=name,
        noun=f"{database_of(source)}.{table}",
        verb=verb,
        id=f"{connector}:{table}:{place}:{verb}:{identity}",
        data=convert(payload),
        subject=subject,
        position=position_of(connector, source, number),
        time_ms=milliseconds(source.get("ts_ms")),
        correlation_id=_rekeyed(record, f"{connector}:{table}:{place}:rekeyed"),
        is_of_row=is_of_row,
        transaction=transaction if transaction is not None and transaction.id else None,
    )


def _prefix(envelope: _Envelope) -> str:
    """What a logical message was called by who wrote it (``pg_logical_emit_message``)."""
    message = parse(envelope.message) if envelope.message else None
    if not isinstance(message, dict):
        raise RefusedError(INVALID, "message is missing: op m carries one, of prefix and content")
    return required({"message.prefix": message.get("prefix")}, "message.prefix")


def _rekeyed(record: Record, correlation_id: str) -> str | None:
    """What the delete and the create of a changed primary key have in common."""
    is_rekeyed = any(name in _REKEYED for name, _ in record.headers)
    return correlation_id if is_rekeyed else None


def _identity(subject: str | None, number: int | None, envelope: _Envelope) -> str:
    """What tells the changes at one place of the log apart: the key of the row.

    One log record may hold many rows (COPY), and a snapshot reads all at one place. Rows without
    a key are told apart by their number in the transaction, where the connector provides it,
    else by their content: identical rows of one bulk insert then count as one.
    """
    if subject is not None:
        return identity_of(subject)
    if number is not None:
        return f"#{number}"
    return digest_of(bytes(envelope.before), bytes(envelope.after))


def _transaction(envelope: _Envelope) -> Transaction | None:
    found = parse(envelope.transaction) if envelope.transaction else None
    if not isinstance(found, dict):
        return None
    number, name = found.get("total_order"), transaction_id_of(found.get("id"))
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        return None
    return Transaction(name or "", number)
