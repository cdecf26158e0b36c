"""From what a Debezium record says of its source to an event: names, identity, order.

Theory of operation. An event's id derives from the place of the change in the database's log and
the row's key, so that a change that the connector repeats after a crash has the same id, and no
two changes share one. Its position is the place as one integer, see :mod:`.log_position`.
"""

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
import orjson

from edo_stream.core.assembly import EVENTS
from edo_stream.core.contract import TRANSACTION_KEY, Contract
from edo_stream.core.event import Event
from edo_stream.core.record import Record
from edo_stream.sources.attributes import has_forbidden_characters
from edo_stream.sources.cloudevents import CORE_HEADERS
from edo_stream.sources.connect_json import unwrapped
from edo_stream.sources.json_data import parse
from edo_stream.sources.log_position import place_of
from edo_stream.sources.order import key_is_in_data, key_reader, needs_position
from edo_stream.sources.refused import INVALID, RefusedError

_POSTGRESQL_ID: Final = re.compile(r"([0-9]+):[0-9]+")
_CONTENT_TYPE: Final = "application/json"
_MS_MAX: Final = 2**53
#: A longer key enters the id as its digest: ids travel in headers and in state.
_KEY_CHARACTERS_MAX: Final = 200


class Transaction(msgspec.Struct, gc=False):
    """Where a change stands in its source transaction."""

    id: str
    number: int
    """From 1; the end has 0."""
    events: int | None = None
    """Of the end: how many changes there are."""


class Change(msgspec.Struct, gc=False):
    """One fact of a database, before the contract's rules are applied to it."""

    connector: str
    name: str
    """Logical name of the server, the connector's ``topic.prefix``."""
    noun: str
    """What it happened to, ``<database>.<schema>.<table>``: the type's first part."""
    verb: str
    id: str
    data: bytes
    subject: str | None
    position: int | None
    time_ms: int | None
    correlation_id: str | None = None
    is_of_row: bool = True
    """Whether it has the key of a row, which the contract may order by."""
    transaction: Transaction | None = None


Finish = Callable[[Record, Change], Event]


def finisher(contract: Contract) -> Finish:
    """Compile what makes an event of a change: the contract's key and position."""
    if contract.order_key == TRANSACTION_KEY:
        return _transaction_finisher(contract)
    read_key = key_reader(contract)
    is_parsed = key_is_in_data(contract)
    is_position_needed = needs_position(contract)

    def key_of(record: Record, change: Change) -> bytes:
        try:
            key = None if record.key is None else unwrapped(record.key)
            return read_key(key, change.subject, parse(change.data) if is_parsed else None)
        except RefusedError:
            if change.is_of_row or change.subject is None:
                raise
            return change.subject.encode()

    def finish(record: Record, change: Change) -> Event:
        if change.position is None and is_position_needed:
            raise RefusedError(
                INVALID, f"no position: source of {change.connector} has none that is read"
            )
        return _event(record, change, key_of(record, change))

    return finish


def _transaction_finisher(contract: Contract) -> Finish:
    """Compile what keys changes by their transaction, for the topic that puts them together."""

    def finish(record: Record, change: Change) -> Event:
        if change.transaction is not None:
            key = change.transaction.id.encode()
        elif change.verb == "read":
            # A row of a snapshot, which is of no transaction.
            key = unwrapped(record.key or b"")
        else:
            raise RefusedError(
                INVALID,
                "transaction is missing: set provide.transaction.metadata of the connector to true",
            )
        return _event(record, change, key)

    return finish


def _event(record: Record, change: Change, key: bytes) -> Event:
    headers: Sequence[tuple[str, Any]] = record.headers
    extensions = [item for item in headers if item[0] not in CORE_HEADERS]
    if (transaction := change.transaction) is not None:
        extensions.append(("ce_transactionid", transaction.id.encode()))
        extensions.append(("ce_transactionorder", b"%d" % transaction.number))
        if transaction.events is not None:
            extensions.append((EVENTS, b"%d" % transaction.events))
    return Event(
        id=change.id,
        source=f"/debezium/{change.connector}/{change.name}",
        type=f"{change.noun}.{change.verb}",
        key=key,
        data=change.data,
        content_type=_CONTENT_TYPE,
        subject=change.subject,
        time_ms=change.time_ms,
        position=change.position,
        correlation_id=change.correlation_id,
        extensions=tuple(extensions),
    )


def transaction_id_of(value: object) -> str | None:
    """Id of a transaction; of PostgreSQL without the position in it, which differs by record."""
    if not isinstance(value, str) or not value or has_forbidden_characters(value):
        return None
    found = _POSTGRESQL_ID.fullmatch(value)
    return value if found is None else found[1]


def required(source: dict[str, Any], name: str) -> str:
    """A text that ``source`` must have."""
    value = source.get(name)
    if isinstance(value, str) and value and not has_forbidden_characters(value):
        return value
    raise RefusedError(INVALID, f"source.{name} is missing, empty or not a text")


def database_of(source: dict[str, Any]) -> str:
    """The database, or the server where it has only one."""
    return required(source, "db") if source.get("db") else required(source, "name")


def table_of(source: dict[str, Any]) -> str:
    """``<schema>.<table>``, of what the connector's database has; a collection is a table."""
    schema = source.get("schema")
    table = required(source, "collection" if "collection" in source else "table")
    return f"{required(source, 'schema')}.{table}" if schema else table


def milliseconds(value: object) -> int | None:
    """Epoch ms, where the value is a number of them; of 53 bits, as far as times go in JSON."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MS_MAX:
        return value
    return None


def place_text(connector: str, source: dict[str, Any]) -> str:
    """The place in the log that an id derives from, as text."""
    place = place_of(connector, source)
    if place is not None:
        return place
    # A connector that is not known by its fields: all that it says of the place, in one digest.
    told = {
        name: value for name, value in source.items() if not name.startswith(("ts_", "version"))
    }
    return digest_of(orjson.dumps(told, option=orjson.OPT_SORT_KEYS))


def digest_of(*parts: bytes) -> str:
    """Short text for what is too long or too strange for an id."""
    return sha256(b"\x1f".join(parts)).hexdigest()[:32]


def key_text(key: bytes | None) -> str | None:
    """The row's key for people: its JSON without schema, or the text, or the bytes in hex."""
    if not key:
        return None
    try:
        found = unwrapped(key).decode()
    except UnicodeDecodeError:
        return key.hex()
    return key.hex() if has_forbidden_characters(found) else found


def identity_of(text: str) -> str:
    """A key as it enters an id."""
    return text if len(text) <= _KEY_CHARACTERS_MAX else sha256(text.encode()).hexdigest()
