"""Debezium's CloudEvents converter: the envelope, taken apart into attributes, put together again.

The converter writes structured CloudEvents without saying so in a header. Its attributes are the
fields of ``source`` with ``iodebezium`` before them, in lower case and without underscores; its
data are the row before and after.
"""

from typing import Any, Final

import msgspec

from edo_stream.sources.refused import INVALID, RefusedError

_TYPE: Final = "io.debezium."
_PREFIX: Final = "iodebezium"
#: Fields whose names are not their attributes'.
_FIELDS: Final = {
    "tsms": "ts_ms",
    "txid": "txId",
    "changelsn": "change_lsn",
    "commitlsn": "commit_lsn",
    "eventserialno": "event_serial_no",
    "txnnumber": "txnNumber",
}
_TRANSACTION_FIELDS: Final = {
    "iodebeziumtxid": "id",
    "iodebeziumtxtotalorder": "total_order",
    "iodebeziumtxdatacollectionorder": "data_collection_order",
}
_NUMBERS: Final = frozenset({"ts_ms", "total_order", "data_collection_order"})


def is_converted(members: dict[str, Any]) -> bool:
    """Whether a record is one of the converter."""
    kind = members.get("type")
    return "specversion" in members and isinstance(kind, str) and kind.startswith(_TYPE)


def envelope_of(members: dict[str, msgspec.Raw], parsed: dict[str, Any]) -> bytes:
    """The envelope that the converter was given; the rows keep their bytes."""
    data = members.get("data", msgspec.Raw(b"null"))
    try:
        rows = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        if "payload" in rows and "schema" in rows:
            rows = msgspec.json.decode(rows["payload"], type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        raise RefusedError(INVALID, "data is missing: expected the rows before and after") from None
    transaction = {
        field: _value(field, parsed[name])
        for name, field in _TRANSACTION_FIELDS.items()
        if name in parsed
    }
    # PostgreSQL's own transaction has the name of the other's id.
    is_assembled = "total_order" in transaction
    return msgspec.json.encode(
        {
            "before": rows.get("before"),
            "after": rows.get("after"),
            "source": _source(parsed),
            "op": parsed.get("iodebeziumop"),
            "transaction": transaction if is_assembled else None,
        }
    )


def _source(parsed: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in parsed.items():
        short = name.removeprefix(_PREFIX)
        if short != name and name != "iodebeziumop":
            field = _FIELDS.get(short, short)
            found[field] = _value(field, value)
    return found


def _value(field: str, value: Any) -> Any:
    """A field's value; numbers may be text, as attributes often are."""
    is_number = isinstance(value, str) and value.isascii() and value.isdigit()
    return int(value) if is_number and field in _NUMBERS and len(value) < 20 else value
