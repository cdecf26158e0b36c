"""What checking events costs: validators compared, and a decoder with and without its contract.

``python -m load.validation``; one process, one core, no broker. The figures in
``docs/contracts-validation.md`` are from here. fastjsonschema is measured where it is installed.
"""

import json
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from timeit import repeat
from typing import Annotated, Any, Literal

import jsonschema_rs
import msgspec
import orjson

from edo_stream.core.record import StoredRecord
from edo_stream.registry import load
from edo_stream.registry.enforced import rules_of
from edo_stream.schemas.enforcement import Tally, enforced
from edo_stream.sources import decoder

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "order": {
            "type": "object",
            "properties": {
                "id": {"type": "string", "pattern": "^[a-z0-9-]+$"},
                "number": {"type": "integer", "minimum": 1},
                "status": {"enum": ["placed", "changed", "cancelled"]},
            },
            "required": ["id", "number"],
            "additionalProperties": False,
        },
        "customer": {
            "type": "object",
            "properties": {
                "id": {"type": "string", "minLength": 1},
                "email": {"type": "string"},
                "country": {"type": "string", "minLength": 2, "maxLength": 2},
            },
            "required": ["id"],
        },
        "total": {"type": "number", "minimum": 0},
        "currency": {"type": "string", "minLength": 3, "maxLength": 3},
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "sku": {"type": "string"},
                    "quantity": {"type": "integer", "minimum": 1},
                    "price": {"type": "number"},
                },
                "required": ["sku", "quantity"],
            },
        },
        "note": {"type": "string"},
    },
    "required": ["order", "customer", "total", "currency"],
}
EVENT: dict[str, Any] = {
    "order": {"id": "order-000123", "number": 7, "status": "placed"},
    "customer": {"id": "c-99812", "email": "someone@example.com", "country": "DE"},
    "total": 129.9,
    "currency": "EUR",
    "lines": [
        {"sku": "A-100", "quantity": 2, "price": 49.95},
        {"sku": "B-7", "quantity": 1, "price": 30.0},
    ],
    "note": "leave it at the door, please",
}
CONTRACT = """\
name: shop.order.placed
owner: team-orders
description: An order was placed.
codec: cloudevents
partitions: 4
emit: {topic: shop.order.accepted}
"""
VERSIONS = """\
schema:
  format: json
  versions:
    1: {note: First.}
    2: {note: The total has a better name., upcast: [rename: {/total: amount}]}
"""
_LOOPS = 1_000
#: Many short ones: whatever else the machine does, some are undisturbed.
_REPEATS = 300


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """The part of the schema that msgspec checks while it decodes."""

    id: Annotated[str, msgspec.Meta(pattern="^[a-z0-9-]+$")]
    number: Annotated[int, msgspec.Meta(ge=1)]
    status: Literal["placed", "changed", "cancelled"] = "placed"


class Customer(msgspec.Struct):
    """Likewise."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    email: str = ""
    country: Annotated[str, msgspec.Meta(min_length=2, max_length=2)] = "XX"


class Line(msgspec.Struct):
    """Likewise."""

    sku: str
    quantity: Annotated[int, msgspec.Meta(ge=1)]
    price: float = 0.0


class Data(msgspec.Struct):
    """Likewise."""

    order: Order
    customer: Customer
    total: Annotated[float, msgspec.Meta(ge=0)]
    currency: Annotated[str, msgspec.Meta(min_length=3, max_length=3)]
    lines: list[Line] = []
    note: str = ""


def main() -> None:
    """Measure, and print one line each."""
    data = orjson.dumps(EVENT)
    print(f"event of {len(data)} bytes; best of {_REPEATS} times {_LOOPS:,}")
    parsed = orjson.loads(data)
    rust = jsonschema_rs.validator_for(SCHEMA)
    _show("parse alone (orjson)", lambda: orjson.loads(data))
    _show("jsonschema-rs, parsed data", lambda: rust.is_valid(parsed))
    _show("jsonschema-rs with parsing", lambda: rust.is_valid(orjson.loads(data)))
    try:
        generated: Any = import_module("fastjsonschema").compile(SCHEMA)
    except ImportError:
        print(f"{'fastjsonschema':<40} not installed")
    else:
        _show("fastjsonschema, parsed data", lambda: generated(parsed))
        _show("fastjsonschema with parsing", lambda: generated(orjson.loads(data)))
    typed = msgspec.json.Decoder(Data)
    _show("msgspec, decoding into structs", lambda: typed.decode(data))
    _decoders(data)


def _decoders(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bare = _decode(Path(folder) / "bare", "")
        checked = _decode(Path(folder) / "checked", VERSIONS)
        plain = _record(data)
        newest = _record(orjson.dumps({**EVENT, "amount": EVENT["total"]}), b"urn:order/v2")
        older = _record(data, b"urn:order/v1")
        _show("decoder of CloudEvents, no contract", lambda: bare[0](plain))
        _show("with a contract that has no schema", lambda: bare[1](plain))
        _show("with its schema", lambda: checked[1](newest))
        _show("with its schema, cast from v1 to v2", lambda: checked[1](older))


def _decode(folder: Path, more: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    place = folder / "shop.order.placed"
    place.mkdir(parents=True)
    (place / "contract.yaml").write_text(CONTRACT + more)
    newest = {**SCHEMA, "required": ["order", "customer", "amount", "currency"]}
    (place / "v1.schema.json").write_text(json.dumps(SCHEMA))
    (place / "v2.schema.json").write_text(json.dumps(newest))
    topic = load(folder).topics["shop.order.placed"]
    bare = decoder(topic.contract)
    rules = rules_of(topic.declaration, topic.file)
    return bare, enforced(bare, rules, lambda: 0, Tally())


def _record(data: bytes, schema: bytes = b"urn:order/v2") -> StoredRecord:
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"5b8f1c1e-7f0a-4b57-9c83-0d1d6b4ad001"),
        ("ce_source", b"/shop/checkout"),
        ("ce_type", b"shop.order.placed"),
        ("ce_time", b"2026-01-31T12:00:00.250Z"),
        ("ce_dataschema", schema),
        ("content-type", b"application/json"),
    )
    return StoredRecord("shop.order.placed", 0, 0, 1, b"order-000123", data, headers)


def _show(name: str, run: Callable[[], Any]) -> None:
    seconds = min(repeat(run, number=_LOOPS, repeat=_REPEATS)) / _LOOPS
    print(f"{name:<40} {seconds * 1e6:6.2f} µs")


if __name__ == "__main__":
    main()
