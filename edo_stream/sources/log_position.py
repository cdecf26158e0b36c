"""Places in databases' logs, from Debezium's ``source``: as an id's text, as a growing integer.

A place is what never differs between two deliveries of one change. A position says which of two
changes of one key is later; for PostgreSQL the argument is in :func:`_postgresql`. Everywhere the
row of a first snapshot goes before the changes that are streamed from the same place.
"""

import re
from typing import Any, Final

import orjson

Source = dict[str, Any]

#: Fields of ``source`` that name the place of a change, by connector.
_PLACE_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "postgresql": ("lsn", "txId"),
    "mysql": ("file", "pos", "row"),
    "mariadb": ("file", "pos", "row"),
    "sqlserver": ("commit_lsn", "change_lsn", "event_serial_no"),
    "mongodb": ("ts_ms", "ord", "lsid", "txnNumber"),
}
_SNAPSHOTS: Final = frozenset(
    {"true", "first", "first_in_data_collection", "last_in_data_collection", "last"}
)
_LSN_MAX: Final = 2**64 - 1
_UINT32_MAX: Final = 2**32 - 1
_FILE_DIGITS_MAX: Final = 18
#: SQL Server: log file, block and slot, ``00000027:00000758:0005``.
_SQLSERVER_LSN: Final = re.compile(r"[0-9a-fA-F]{8}:[0-9a-fA-F]{8}:[0-9a-fA-F]{4}")
_SQLSERVER_LSN_BITS: Final = 80


def place_of(connector: str, source: Source) -> str | None:
    """Text of the place; ``None`` if the connector's fields are not known or not there."""
    fields = _PLACE_FIELDS.get(connector)
    if fields is None or not _is_scalar(source.get(fields[0])):
        return None
    values = [source.get(field) for field in fields]
    return ":".join(str(value) if _is_scalar(value) else "" for value in values)


def _is_scalar(value: object) -> bool:
    is_text = isinstance(value, str) and value.isprintable() and len(value) <= 255
    return is_text or (isinstance(value, int) and not isinstance(value, bool))


def position_of(connector: str, source: Source, number: int | None = None) -> int | None:
    """Position that orders the changes of one key; ``None`` if it cannot be told.

    ``number`` is the change's in its transaction, where the connector tells it: all changes of a
    transaction of MongoDB have one place.
    """
    match connector:
        case "postgresql":
            return _postgresql(source)
        case "mysql" | "mariadb":
            return _binlog(source)
        case "sqlserver":
            return _sqlserver(source)
        case "mongodb":
            return _mongodb(source, number)
        case _:
            return None


def _postgresql(source: Source) -> int | None:
    """``last commit << 64 | lsn``.

    The LSN alone is not enough: a transaction that was running while a snapshot read the row may
    have written its change before the snapshot's LSN and committed after it. Changes are
    delivered in the order of commits, so the last commit before a change comes first, and the
    LSN orders the changes of one transaction.

    A row of a snapshot contains all commits up to the snapshot's LSN and nothing later: it goes
    before everything whose last commit is that LSN or beyond, and after all that was streamed
    before (a snapshot may be repeated). Rows of an incremental snapshot come in between streamed
    changes, with the place of the change before them, and are ordered like changes.

    Before Debezium has seen a commit (the first transaction after its first start), the LSN
    stands in for it. Of this one transaction, a change made before the snapshot's LSN and
    committed after it is taken for stale: nothing in the record tells the two cases apart.
    """
    commit, lsn = _sequence(source)
    if lsn is None:
        return None
    if _is_snapshot(source):
        return max(commit or 0, lsn) << 64
    return (lsn if commit is None else commit) << 64 | lsn


def _sequence(source: Source) -> tuple[int | None, int | None]:
    """Last commit and LSN; ``source.sequence`` is JSON in a string: ``["24023119",null]``."""
    lsn = _number(source.get("lsn"))
    sequence = source.get("sequence")
    if isinstance(sequence, str):
        try:
            sequence = orjson.loads(sequence)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            return None, lsn
    match sequence:
        case [commit, change]:
            return _number(commit), lsn if _number(change) is None else _number(change)
        case _:
            return None, lsn


def _is_snapshot(source: Source) -> bool:
    # Documented as an enum, shown as a boolean, left out when false.
    snapshot = source.get("snapshot")
    return snapshot is True or (isinstance(snapshot, str) and snapshot in _SNAPSHOTS)


def _number(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LSN_MAX:
        return value
    return None


def _binlog(source: Source) -> int | None:
    """Number of the binlog file, position in it, row in its event; orders one server's log.

    After a failover another server's log goes on, with names and positions of its own: what is
    ordered by them begins anew (``docs/cdc.md``).
    """
    file, position, row = source.get("file"), _number(source.get("pos")), source.get("row")
    if not isinstance(file, str) or position is None:
        return None
    digits = file.rpartition(".")[2]
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _FILE_DIGITS_MAX):
        return None
    number = _number(row) or 0
    found = int(digits) << 96 | position << 32 | min(number, _UINT32_MAX)
    return found - 1 if _is_snapshot(source) else found


def _sqlserver(source: Source) -> int | None:
    """``commit LSN << 112 | change LSN << 32 | serial number``.

    A row of a snapshot contains every commit up to its LSN, so it goes behind all of them.
    """
    commit, change = _sqlserver_lsn(source, "commit_lsn"), _sqlserver_lsn(source, "change_lsn")
    if commit is None:
        return None
    low_bits = _SQLSERVER_LSN_BITS + 32
    if change is None or _is_snapshot(source):
        return commit << low_bits | (1 << low_bits) - 1
    serial = _number(source.get("event_serial_no")) or 0
    return commit << low_bits | change << 32 | min(serial, _UINT32_MAX)


def _sqlserver_lsn(source: Source, name: str) -> int | None:
    value = source.get(name)
    if isinstance(value, str) and _SQLSERVER_LSN.fullmatch(value):
        return int(value.replace(":", ""), 16)
    return None


def _mongodb(source: Source, number: int | None) -> int | None:
    """Seconds of the cluster time, the number within the second, the one in the transaction.

    The number counts from 1; a row of a snapshot has 0.
    """
    seconds, order = _number(source.get("ts_ms")), _number(source.get("ord"))
    if seconds is None or order is None:
        return None
    last = 0 if _is_snapshot(source) else min(number or 1, _UINT32_MAX)
    return (seconds // 1_000) << 96 | order << 32 | last
