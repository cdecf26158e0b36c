"""What Debezium writes beside the changes of rows: of schemas, of transactions, of itself."""

from typing import Any, Final

from edo_stream.core.assembly import END
from edo_stream.core.event import Ignored
from edo_stream.core.record import Record
from edo_stream.sources.debezium_change import (
    Change,
    Transaction,
    digest_of,
    milliseconds,
    place_text,
    required,
    transaction_id_of,
)
from edo_stream.sources.log_position import position_of
from edo_stream.sources.refused import INVALID, RefusedError

_STATUS_VERBS: Final = {"BEGIN": "began", "END": "ended"}
_HEARTBEAT: Final = frozenset({"ts_ms", "ts_us", "ts_ns", "serverName"})
_NOTIFICATION: Final = frozenset({"id", "aggregate_type", "type"})
_TRANSACTIONS: Final = ".transaction"


def topic_change(record: Record, members: dict[str, Any], payload: bytes) -> Change | Ignored:
    """The fact of a record that is neither an envelope nor a row, or why it has none."""
    if "ddl" in members or "tableChanges" in members:
        return _schema_change(members, payload)
    if "status" in members and "id" in members:
        return _transaction(record, members, payload)
    if members and members.keys() <= _HEARTBEAT:
        return Ignored("heartbeat")
    if members.keys() >= _NOTIFICATION:
        return Ignored("notification")
    raise RefusedError(
        INVALID,
        "op or source is missing: expected a Debezium envelope with both, or a flattened row with "
        "__op or __deleted (add.fields of ExtractNewRecordState)",
    )


def _schema_change(members: dict[str, Any], payload: bytes) -> Change:
    """A statement that changed tables, of the topic that has the connector's name."""
    source = members.get("source")
    if not isinstance(source, dict):
        raise RefusedError(INVALID, "source is missing: a schema change says where it comes from")
    connector, name = required(source, "connector"), required(source, "name")
    database = required({"databaseName": members.get("databaseName") or name}, "databaseName")
    place = place_text(connector, source)
    return Change(
        connector=connector,
        name=name,
        noun=f"{database}.schema",
        verb="changed",
        id=f"{connector}:{database}:{place}:schema:{_statement(members)}",
        data=payload,
        subject=database,
        position=position_of(connector, source),
        time_ms=milliseconds(source.get("ts_ms")),
        is_of_row=False,
    )


def _statement(members: dict[str, Any]) -> str:
    """One statement is written once for each database, and a snapshot writes many at one place."""
    parts = (members.get("schemaName"), members.get("ddl"), members.get("tableChanges"))
    return digest_of(*(repr(part).encode("utf-8", "replace") for part in parts))


def _transaction(record: Record, members: dict[str, Any], payload: bytes) -> Change:
    """Begin or end of a source transaction, of the topic ``<prefix>.transaction``."""
    status, given_id = members["status"], members["id"]
    verb = _STATUS_VERBS.get(status) if isinstance(status, str) else None
    if verb is None:
        raise RefusedError(INVALID, "status is unknown: expected BEGIN or END of a transaction")
    transaction_id = transaction_id_of(given_id)
    if transaction_id is None:
        raise RefusedError(INVALID, "id is not a text: expected the id of a transaction")
    name = record.topic.removesuffix(_TRANSACTIONS)
    end = None
    if verb == "ended":
        end = Transaction(transaction_id, END, _event_count(members))
    return Change(
        connector="transaction",
        name=name,
        noun=f"{name}.transaction",
        verb=verb,
        id=f"transaction:{name}:{given_id}:{verb}",
        data=payload,
        subject=given_id,
        position=None,
        time_ms=milliseconds(members.get("ts_ms")),
        is_of_row=False,
        transaction=end,
    )


def _event_count(members: dict[str, Any]) -> int:
    count = milliseconds(members.get("event_count"))
    if count is None or count < 0:
        raise RefusedError(INVALID, "event_count is missing: the end of a transaction has it")
    return count
