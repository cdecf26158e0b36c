"""What Debezium writes beside the changes of rows: of schemas, of transactions, of itself."""

from typing import Any, Final

from edo_stream.core.assembly import END
from edo_stream.core.contract import Contract
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
from edo_stream.sources.refused import INVALID, MappingError, RefusedError

_STATUS_VERBS: Final = {"BEGIN": "began", "END": "ended"}
_HEARTBEAT: Final = frozenset({"ts_ms", "ts_us", "ts_ns", "serverName"})
_NOTIFICATION: Final = frozenset({"id", "aggregate_type", "type"})
_TRANSACTIONS: Final = ".transaction"


Collections = frozenset[str] | None
"""Tables whose changes make a transaction up, as its end names them; ``None``: all captured."""


def collections_of(contract: Contract) -> Collections:
    """Read ``mapping.collections`` of a contract.

    Raises:
        MappingError: it is no list of names.
    """
    found = contract.mapping.get("collections")
    if found is None:
        return None
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise MappingError("mapping.collections: write a list of names such as [public.orders]")
    return frozenset(found)


def topic_change(
    record: Record, members: dict[str, Any], payload: bytes, collections: Collections
) -> Change | Ignored:
    """The fact of a record that is neither an envelope nor a row, or why it has none."""
    if "ddl" in members or "tableChanges" in members:
        return _schema_change(members, payload)
    if "status" in members and "id" in members:
        return _transaction(record, members, payload, collections)
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


def _transaction(
    record: Record, members: dict[str, Any], payload: bytes, collections: Collections
) -> Change | Ignored:
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
        events = _event_count(members, collections)
        if events == 0:
            return Ignored("transaction-of-others")
        end = Transaction(transaction_id, END, events)
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


def _event_count(members: dict[str, Any], collections: Collections) -> int:
    """How many changes the end of a transaction counts, of the collections that are asked for."""
    if collections is None:
        return _count(members.get("event_count"))
    counted = members.get("data_collections")
    if not isinstance(counted, list) or not all(isinstance(one, dict) for one in counted):
        raise RefusedError(INVALID, "data_collections is missing: the end of a transaction has it")
    return sum(
        _count(one.get("event_count"))
        for one in counted
        if one.get("data_collection") in collections
    )


def _count(value: object) -> int:
    count = milliseconds(value)
    if count is None or count < 0:
        raise RefusedError(INVALID, "event_count is missing: the end of a transaction has it")
    return count
