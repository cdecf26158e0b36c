"""What the tests of captured changes share: a contract, an envelope, a record, its event."""

import json
from dataclasses import replace
from typing import Any, Final

from edo_stream.core.contract import Codec, Contract, MonotonicOrder, NoOrder
from edo_stream.core.event import Decoded, Event
from edo_stream.core.record import StoredRecord
from edo_stream.sources import decoder

CONTRACT: Final = Contract(
    topic="shop.public.customers",
    owner="team-customers",
    group="customers",
    partitions=8,
    codec=Codec.DEBEZIUM,
    emit="shop.customer.changed",
    emit_partitions=8,
    dead_letters="edo.dead-letters.shop.public.customers",
    ordering=MonotonicOrder(),
)
UNORDERED: Final = replace(CONTRACT, ordering=NoOrder())
KEY: Final = b'{"id":1004}'
SOURCE: Final[dict[str, Any]] = {
    "version": "3.6.3.Final",
    "connector": "postgresql",
    "name": "shop",
    "ts_ms": 1_700_000_000_000,
    "snapshot": "false",
    "db": "shop",
    "sequence": '["100","110"]',
    "schema": "public",
    "table": "customers",
    "txId": 555,
    "lsn": 110,
    "xmin": None,
}


def envelope(op: Any = "u", source: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "before": None,
        "after": {"id": 1004},
        "source": SOURCE | (source or {}),
        "op": op,
        "ts_ms": 1_700_000_000_100,
        "transaction": None,
        **more,
    }


def record(
    value: Any, key: bytes | None = KEY, headers: Any = (), topic: str = CONTRACT.topic
) -> StoredRecord:
    data = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    return StoredRecord(topic, 0, 7, 0, key, data, tuple(headers))


def decode(found: StoredRecord, contract: Contract = UNORDERED) -> Decoded:
    return decoder(contract)(found)


def event(found: StoredRecord, contract: Contract = UNORDERED) -> Event:
    decoded = decode(found, contract)
    assert isinstance(decoded, Event), decoded
    return decoded


def data(found: StoredRecord, contract: Contract = UNORDERED) -> Any:
    return json.loads(event(found, contract).data or b"")


def with_schema(columns: list[dict[str, Any]], row: dict[str, Any]) -> dict[str, Any]:
    """An envelope as Connect's JSON converter writes it with ``schemas.enable``."""
    fields = [
        {"type": "struct", "optional": True, "field": name, "fields": columns}
        for name in ("before", "after")
    ]
    schema = {"type": "struct", "name": "shop.public.customers.Envelope", "fields": fields}
    return {"schema": schema, "payload": envelope(before=row, after=row)}
