"""Rows that ``ExtractNewRecordState`` has taken out of their envelope.

What is left of the envelope is what ``add.fields`` or ``add.headers`` keep, as members or headers
whose names begin with ``__``. Ids and order need the place in the log: ``lsn`` and ``sequence`` of
PostgreSQL, ``file``, ``pos`` and ``row`` of MySQL. Without it each record counts as a change of its
own, named by its place in Kafka; a contract with ``policy: monotonic`` refuses it.

A delete is a row with ``__deleted`` (``rewrite``), or a null (``tombstone``, the default): one with
a type, which Connect's converter writes as the text ``null``, or one that has the headers of the
place. Any other null is a tombstone, which follows a delete and is no fact of its own.
"""

from typing import Any, Final

from edo_stream.core.record import Record
from edo_stream.sources.attributes import has_forbidden_characters
from edo_stream.sources.connect_json import header_value
from edo_stream.sources.debezium_change import (
    Change,
    digest_of,
    identity_of,
    key_text,
    milliseconds,
)
from edo_stream.sources.log_position import place_of, position_of
from edo_stream.sources.refused import INVALID, RefusedError

#: A row is told by one of these.
FLAT_HEADERS: Final = frozenset({"__op", "__deleted"})
_PREFIX: Final = "__"
_VERBS: Final = {"c": "created", "u": "updated", "d": "deleted", "r": "read"}
#: By which fields a connector is known that does not say its name.
_CONNECTORS: Final = (
    ("lsn", "postgresql"),
    ("commit_lsn", "sqlserver"),
    ("file", "mysql"),
    ("ord", "mongodb"),
)


def is_flat_delete(record: Record) -> bool:
    """Whether a null is a delete: it says so, and where in the log."""
    kept = _kept({}, record)
    return kept.get("op") == "d" and any(field in kept for field, _ in _CONNECTORS)


def flat_change(record: Record, data: bytes, row: dict[str, Any]) -> Change:
    """The change that a flattened record tells; ``data`` is its row, empty for a delete by null."""
    kept = _kept(row, record)
    verb = _verb(kept) if row else "deleted"
    connector = _connector(kept)
    topic = record.topic.split(".")
    name = _text(kept, "name") or topic[0]
    table = _text(kept, "table") or _text(kept, "collection")
    schema = _text(kept, "schema")
    table = f"{schema}.{table}" if schema and table else table or ".".join(topic[1:]) or topic[0]
    subject = key_text(record.key)
    place = place_of(connector, kept)
    position = position_of(connector, kept, milliseconds(kept.get("total_order")))
    if place is None:
        identity = f"record:{record.topic}:{record.partition}:{record.offset}"
    else:
        row_identity = digest_of(data) if subject is None else identity_of(subject)
        identity = f"{connector}:{table}:{place}:{verb}:{row_identity}"
    return Change(
        connector=connector,
        name=name,
        noun=f"{_text(kept, 'db') or name}.{table}",
        verb=verb,
        id=identity,
        data=data,
        subject=subject,
        position=position,
        time_ms=milliseconds(kept.get("source_ts_ms")) or milliseconds(kept.get("ts_ms")),
    )


def _kept(row: dict[str, Any], record: Record) -> dict[str, Any]:
    """What was kept of the envelope, by the names it had there."""
    kept = {name: _header(value) for name, value in record.headers if name.startswith(_PREFIX)}
    kept |= {name: value for name, value in row.items() if name.startswith(_PREFIX)}
    found = {}
    for name, value in kept.items():
        short = name.removeprefix(_PREFIX)
        found[short] = value
        # ``source.lsn`` is kept as ``__source_lsn``, and ``transaction.id`` likewise.
        for struct in ("source_", "transaction_"):
            if short.startswith(struct) and short != "source_ts_ms":
                found.setdefault(short.removeprefix(struct), value)
    return found


def _header(value: bytes | None) -> Any:
    found = header_value(value)
    is_number = isinstance(found, str) and found.isascii() and found.isdigit() and len(found) < 20
    return int(found) if is_number else found


def _verb(kept: dict[str, Any]) -> str:
    if str(kept.get("deleted")).lower() == "true":
        return "deleted"
    operation = kept.get("op")
    if operation is None:
        # ``__deleted`` alone does not tell a new row from a changed one.
        return "upserted"
    verb = _VERBS.get(operation) if isinstance(operation, str) else None
    if verb is None:
        raise RefusedError(INVALID, "__op is unknown: expected one of c, u, d, r")
    return verb


def _connector(kept: dict[str, Any]) -> str:
    named = _text(kept, "connector")
    if named is not None:
        return named
    return next((name for field, name in _CONNECTORS if kept.get(field) is not None), "unknown")


def _text(kept: dict[str, Any], name: str) -> str | None:
    value = kept.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, str) and not has_forbidden_characters(value):
        return value
    raise RefusedError(INVALID, f"__{name} is not a text")
