"""Changes of several tables, and the end of their transaction, on the way to being put together."""

from dataclasses import replace
from typing import Any

import pytest

from edo_stream.core.contract import Codec, Contract, DedupePolicy, KeyOrder, TransactionOrder
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event, Ignored, Violation
from edo_stream.core.partitioner import partition_of
from edo_stream.core.record import Record, StoredRecord
from edo_stream.sources import decoder
from edo_stream.sources.refused import MappingError
from tests.core.bench import IDENTITY, Bench
from tests.sources.cdc import CONTRACT, decode, envelope, event, record

PARTS = "shop.transaction.parts"
BY_TRANSACTION = replace(CONTRACT, ordering=KeyOrder(), order_key="transaction")
ASSEMBLY = replace(
    CONTRACT,
    topic=PARTS,
    codec=Codec.CLOUDEVENTS,
    ordering=TransactionOrder(),
    position="transactionorder",
    emit="shop.transaction.whole",
)


def change(number: int, transaction: str = "571:53195829", **more: Any) -> dict[str, Any]:
    place = {"id": transaction, "total_order": number, "data_collection_order": 1}
    return envelope("c", {"lsn": 100 + number}, transaction=place, **more)


def end(transaction: str = "571:53195832", **counts: int) -> dict[str, Any]:
    collections = [
        {"data_collection": f"public.{name}", "event_count": count}
        for name, count in counts.items()
    ]
    return {
        "status": "END",
        "id": transaction,
        "ts_ms": 2,
        "event_count": sum(counts.values()),
        "data_collections": collections,
    }


def test_changes_and_end_of_a_transaction_have_one_key() -> None:
    changed = event(record(change(2), b'{"id":7}'), BY_TRANSACTION)
    ended = event(record(end(orders=2), b'{"id":"571:9"}'), BY_TRANSACTION)

    assert b"571" == changed.key == ended.key
    assert (("ce_transactionid", b"571"), ("ce_transactionorder", b"2")) == changed.extensions
    assert (
        ("ce_transactionid", b"571"),
        ("ce_transactionorder", b"0"),
        ("ce_transactionevents", b"2"),
    ) == ended.extensions


@pytest.mark.parametrize(
    "name", ["3E11FA47-71CA-11E1-9E33-C80AA9429562:5", "00000025:00000d08:0025", "571"]
)
def test_ids_of_other_databases_are_whole(name: str) -> None:
    assert name.encode() == event(record(change(1, name)), BY_TRANSACTION).key


def test_begin_is_ignored_where_the_end_is_waited_for() -> None:
    begin = {"status": "BEGIN", "id": "571:1", "ts_ms": 1}

    assert Ignored("transaction-begin") == decode(record(begin), BY_TRANSACTION)


def test_row_of_a_snapshot_keeps_its_key() -> None:
    assert b'{"id":1004}' == event(record(envelope("r")), BY_TRANSACTION).key


def test_change_without_its_transaction_is_refused_with_the_setting() -> None:
    found = decode(record(envelope("u")), BY_TRANSACTION)

    assert isinstance(found, Violation)
    assert "provide.transaction.metadata" in found.detail


def test_end_counts_the_collections_that_are_asked_for() -> None:
    mapped = replace(BY_TRANSACTION, mapping={"collections": ["public.orders"]})
    found = event(record(end(orders=2, items=5)), mapped)

    assert ("ce_transactionevents", b"2") == found.extensions[-1]
    assert Ignored("transaction-of-others") == decode(record(end(items=5)), mapped)


@pytest.mark.parametrize("collections", ["public.orders", [], [5]])
def test_collections_that_are_no_names_are_refused_at_the_start(collections: Any) -> None:
    with pytest.raises(MappingError, match="collections"):
        decoder(replace(BY_TRANSACTION, mapping={"collections": collections}))


@pytest.mark.parametrize(
    "broken",
    [{"event_count": None}, {"event_count": -1}, {"event_count": "2"}, {"event_count": True}],
)
def test_end_without_its_count_is_a_violation(broken: dict[str, Any]) -> None:
    assert isinstance(decode(record(end(orders=2) | broken), BY_TRANSACTION), Violation)


def test_transaction_over_two_tables_is_put_together_by_two_steps() -> None:
    tables = [
        replace(BY_TRANSACTION, topic=topic, emit=PARTS, dedupe=DedupePolicy())
        for topic in ("shop.public.orders", "shop.public.items", "shop.public.transaction")
    ]
    first, second = bench(*tables), bench(ASSEMBLY)
    # The end overtakes a table's changes, and one change comes twice.
    first.feed(sent("shop.public.items", 0, change(2)), sent("shop.public.items", 1, change(3)))
    first.feed(sent("shop.public.transaction", 0, end(orders=2, items=2)))
    first.feed(sent("shop.public.items", 2, change(3), row=1))
    second.feed(*[again(number, one) for number, one in enumerate(on(first, PARTS))])
    assert [] == on(second, "shop.transaction.whole")

    first.published.clear()
    first.feed(sent("shop.public.orders", 0, change(1)), sent("shop.public.orders", 1, change(4)))
    effects = second.feed(*[again(9 + number, one) for number, one in enumerate(on(first, PARTS))])

    whole = [one for one in effects.publish if one.topic == "shop.transaction.whole"]
    orders = [dict(one.headers)["ce_transactionorder"] for one in whole]
    assert [b"1", b"2", b"3", b"4", b"0"] == orders


def test_parts_go_to_the_partition_of_their_transaction_whichever_they_come_from() -> None:
    table = bench(replace(BY_TRANSACTION, emit=PARTS))

    table.feed(*[sent(CONTRACT.topic, at, change(1, f"{at}:9")) for at in range(20)])

    found = on(table, PARTS)
    assert [partition_of(b"%d" % at, 8) for at in range(20)] == [one.partition for one in found]
    assert len({one.partition for one in found}) > 1


def bench(*contracts: Contract) -> Bench:
    decoders = {contract.topic: decoder(contract) for contract in contracts}

    def decode_by_topic(found: Record) -> Event | Violation | Ignored:
        return decoders[found.topic](found)

    return Bench(list(contracts), decode_by_topic)


def sent(topic: str, offset: int, value: dict[str, Any], row: int | None = None) -> StoredRecord:
    made = record(value, b'{"id":%d}' % (offset if row is None else row), topic=topic)
    return StoredRecord(topic, IDENTITY.partition, offset, 0, made.key, made.value)


def on(bench: Bench, topic: str) -> list[Publish]:
    return [one for one in bench.published if one.topic == topic]


def again(offset: int, one: Publish) -> StoredRecord:
    """A published record as the next step reads it."""
    return StoredRecord(
        PARTS, IDENTITY.partition, offset, one.timestamp_ms, one.key, one.value, tuple(one.headers)
    )
