"""From what a Debezium record says of its source to an event: names, identity, order.

Theory of operation. An event's id derives from the place of the change in the database's log and
the row's key, so that a change that the connector repeats after a crash has the same id, and no
two changes share one. Its position is the place as one integer, see :mod:`.log_position`.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
import orjson

from edo_stream.core.contract import Contract
from edo_stream.core.event import Event
from edo_stream.core.record import Record
from edo_stream.sources.attributes import has_forbidden_characters
from edo_stream.sources.cloudevents import CORE_HEADERS
from edo_stream.sources.connect_json import unwrapped
from edo_stream.sources.json_data import parse
from edo_stream.sources.log_position import place_of
from edo_stream.sources.order import key_is_in_data, key_reader, needs_position
from edo_stream.sources.refused import INVALID, RefusedError

_CONTENT_TYPE: Final = "application/json"
#: A longer key enters the id as its digest: ids travel in headers and in state.
_KEY_CHARACTERS_MAX: Final = 200


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


Finish = Callable[[Record, Change], Event]


def finisher(contract: Contract) -> Finish:
    """Compile what makes an event of a change: the contract's key and position."""
    read_key = key_reader(contract)
    is_parsed = key_is_in_data(contract)
    is_position_needed = needs_position(contract)

    def key_of(record: Record, change: Change) -> bytes:
        try:
            return read_key(record.key, change.subject, parse(change.data) if is_parsed else None)
        except RefusedError:
            if change.is_of_row or change.subject is None:
                raise
            return change.subject.encode()

    def finish(record: Record, change: Change) -> Event:
        if change.position is None and is_position_needed:
            raise RefusedError(
                INVALID, f"no position: source of {change.connector} has none that is read"
            )
        headers: Sequence[tuple[str, Any]] = record.headers
        return Event(
            id=change.id,
            source=f"/debezium/{change.connector}/{change.name}",
            type=f"{change.noun}.{change.verb}",
            key=key_of(record, change),
            data=change.data,
            content_type=_CONTENT_TYPE,
            subject=change.subject,
            time_ms=change.time_ms,
            position=change.position,
            correlation_id=change.correlation_id,
            extensions=tuple(item for item in headers if item[0] not in CORE_HEADERS),
        )

    return finish


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
    """Epoch ms, where the value is a number of them."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


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
