"""What a task publishes and remembers: results, dead letters, accounts, positions."""

from hashlib import sha256
from typing import Any

import msgspec
import pytest

from edo_stream.core.accounts import Account
from edo_stream.core.contract import NoOrder
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event, Ignored, Violation, derive_id
from edo_stream.core.partitioner import partition_of
from edo_stream.core.record import Batch
from tests.core.bench import (
    CONTROL,
    INTERNAL,
    NOW_MS,
    TOPIC,
    Bench,
    contract,
    decode,
    header,
    operation,
    record,
)


def result_of(one: Any, **rest: Any) -> Publish:
    """The first record that a fresh task publishes for a record."""
    return Bench([contract(NoOrder(), **rest)]).feed(one).publish[0]


def test_a_result_is_a_cloudevent_that_names_its_cause() -> None:
    one = record(7, b"k", subject="s-1", correlation="c-1", time=1_700_000_000_123)
    result = result_of(one)
    assert (result.topic, result.partition) == (f"{TOPIC}.results", 5)
    assert (result.key, result.value) == (b"k", one.value)
    assert result.timestamp_ms == NOW_MS
    assert dict(result.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": derive_id("result", "app", TOPIC, "5", "7").encode(),
        "ce_source": b"/edo/app",
        "ce_type": b"shop.order.placed",
        "ce_subject": b"s-1",
        "ce_time": b"2023-11-14T22:13:20.123Z",
        "ce_correlationid": b"c-1",
        "ce_causationid": b"id-7",
        "ce_edoposition": b"shop.order.placed/5/7",
        "content-type": b"application/json",
    }


def test_the_fast_ids_of_results_are_the_derived_ones() -> None:
    task = Bench([contract()])
    task.feed(*(record(offset) for offset in range(100)))
    expected = [derive_id("result", "app", TOPIC, "5", str(offset)) for offset in range(100)]
    assert expected == [header(each, "ce_id") for each in task.published[:-1]]


def test_a_result_without_a_correlation_begins_one() -> None:
    assert header(result_of(record(7)), "ce_correlationid") == "id-7"


@pytest.mark.parametrize("time_ms", [-(10**17), 10**17])
def test_a_time_beyond_all_calendars_is_left_out(time_ms: int) -> None:
    assert header(result_of(record(0, time=time_ms)), "ce_time") is None


def test_extensions_travel_on_but_override_nothing() -> None:
    headers = [("ce_traceparent", b"00-1"), ("ce_id", b"evil"), ("mine", b"x"), ("mine", b"y")]
    result = result_of(record(0, headers=headers))
    assert list(result.headers)[-3:] == [
        ("ce_traceparent", b"00-1"),
        ("mine", b"x"),
        ("mine", b"y"),
    ]
    assert header(result, "ce_id") != "evil"


def test_a_record_without_a_time_gets_that_of_the_task() -> None:
    assert result_of(record(0, timestamp=-1)).timestamp_ms == NOW_MS


def test_a_result_of_another_partitioning_goes_where_java_would_send_its_key() -> None:
    assert result_of(record(0), emit_partitions=3).partition == partition_of(b"k", 3)


def test_text_that_is_no_unicode_stops_nobody() -> None:
    event = Event(id="\ud800", source="s", type="\ud800", key=b"k", data=b"{}")
    task = Bench([contract(write_metadata=True)], decode=lambda _: event)
    result = task.feed(record(0)).publish[0]
    assert (header(result, "ce_type"), result.value) == ("?", b"{}")


def test_ids_are_written_into_the_metadata_of_json_objects_alone() -> None:
    raw = b'{"id":"1", "amount":1.10, "big":123456789012345678901, "metadata":{"a":1}}'
    value = result_of(record(0, raw=raw), write_metadata=True).value
    assert value == (
        b'{"id":"1","amount":1.10,"big":123456789012345678901,'
        b'"metadata":{"a":1,"correlationId":"1","causationId":"1"}}'
    )


@pytest.mark.parametrize("data", [None, b"[1]", b"<xml/>", b'{"metadata":3}'])
def test_data_that_takes_no_metadata_stays_as_it_is(data: bytes | None) -> None:
    event = Event(id="1", source="s", type="t", key=b"k", data=data)
    task = Bench([contract(write_metadata=True)], decode=lambda _: event)
    assert task.feed(record(0)).publish[0].value == data


def test_a_dead_letter_keeps_the_original_and_says_why() -> None:
    one = record(7, b"!k", headers=[("a", b"1"), ("a", None)], bad="no id", timestamp=-1)
    letter = result_of(one)
    assert (letter.topic, letter.partition) == (f"{TOPIC}.dead", 5)
    assert (letter.key, letter.value, letter.timestamp_ms) == (b"!k", one.value, NOW_MS)
    assert list(letter.headers) == [
        ("a", b"1"),
        ("a", None),
        ("edo-id", derive_id("dead-letter", "app", TOPIC, "5", "7").encode()),
        ("edo-reason", b"invalid"),
        ("edo-detail", b"no id"),
        ("edo-topic", TOPIC.encode()),
        ("edo-partition", b"5"),
        ("edo-offset", b"7"),
        ("edo-timestamp", b"-1"),
        ("edo-owner", b"shop-team"),
        ("edo-app", b"app"),
        ("edo-at", b"%d" % NOW_MS),
    ]


def test_the_detail_of_a_dead_letter_is_bounded() -> None:
    assert len(header(result_of(record(0, bad="x" * 5_000)), "edo-detail") or "") == 1_000


def test_a_codec_that_raises_makes_a_dead_letter_without_data() -> None:
    letter = result_of(record(0, **{"raise": "secret"}))
    assert header(letter, "edo-reason") == "undecodable"
    assert header(letter, "edo-detail") == "codec failed: KeyError"


def test_a_codec_without_memory_stops_the_step() -> None:
    def exhausted(_: Any) -> Event:
        raise MemoryError

    task = Bench([contract()], decode=exhausted)
    with pytest.raises(MemoryError):
        task.step(record(0))


def test_a_step_that_broke_off_leaves_no_fates_behind() -> None:
    is_broken = True

    def decode_but_once(one: Any) -> Event | Violation | Ignored:
        if one.topic == "other" and is_broken:
            raise MemoryError
        return decode(one)

    task = Bench([contract(), contract(topic="other")], decode=decode_but_once)
    with pytest.raises(MemoryError):
        task.step(record(0), record(0, topic="other"))
    task.pipeline.discard()
    is_broken = False
    task.feed(record(1), record(0, topic="other"))
    assert (task.fates(), task.fates("other")) == ({1: "e"}, {0: "e"})


def test_what_is_too_big_for_the_dead_letters_goes_by_reference() -> None:
    one = record(0, b"k", record_bytes=1, bad="x", pad="y" * 70_000, headers=[("a", b"1")])
    letter = result_of(one, record_bytes_max=1_000)
    assert (letter.key, letter.value) == (b"k", None)
    assert header(letter, "edo-reference") == "true"
    assert header(letter, "edo-sha256") == sha256(one.value or b"").hexdigest()
    assert header(letter, "a") == "1"


def test_a_reference_leaves_out_a_big_key_and_big_headers() -> None:
    one = record(0, b"k" * 40_000, headers=[("a", b"1" * 40_000)])
    task = Bench([contract(record_bytes_max=1_000)])
    letter = task.feed(one).publish[0]
    assert (letter.key, header(letter, "a")) == (None, None)


def test_a_tombstone_is_dead_lettered_as_one() -> None:
    def fail(_: Any) -> Event:
        raise ValueError

    task = Bench([contract(record_bytes_max=1_000)], decode=fail)
    small, big = task.feed(
        msgspec.structs.replace(record(0), value=None),
        msgspec.structs.replace(record(1), value=None, key=b"k" * 70_000),
    ).publish[:2]
    assert (small.key, small.value) == (b"k", None)
    assert header(small, "edo-reference") is None
    assert (header(big, "edo-reference"), header(big, "edo-sha256")) == ("true", None)


def test_an_account_says_what_became_of_each_record() -> None:
    task = Bench([contract()])
    effects = task.feed(
        record(10, id=1),
        record(11),
        record(13),
        record(14, id=1),
        record(15, bad="x"),
        msgspec.structs.replace(record(16), value=None),
    )
    account = effects.publish[-1]
    assert (account.topic, account.partition) == (INTERNAL.accounts, 5 % 3)
    assert account.key == f"app/{TOPIC}/5".encode()
    assert msgspec.json.decode(account.value or b"") == {
        "app": "app",
        "group": "shop",
        "topic": TOPIC,
        "partition": 5,
        "atMs": NOW_MS,
        "runs": [[10, 2, "e"], [13, 1, "e"], [14, 1, "d"], [15, 1, "x"], [16, 1, "i"]],
    }
    assert effects.accounts == [msgspec.json.decode(account.value or b"", type=Account)]
    assert effects.counts == {
        (TOPIC, "e"): 3,
        (TOPIC, "d"): 1,
        (TOPIC, "x"): 1,
        (TOPIC, "i"): 1,
    }


def test_a_source_starts_where_it_is_told_and_accounts_for_it() -> None:
    task = Bench([contract()])
    assert task.pipeline.positions() == {}
    effects = task.commit(task.pipeline.start(TOPIC, 40, NOW_MS))
    assert [each.start for each in effects.accounts] == [40]
    assert len(effects.publish) == 1
    task.open()
    assert task.pipeline.positions() == {TOPIC: 40}


def test_records_that_were_lost_are_accounted_for() -> None:
    task = Bench([contract()])
    task.feed(record(0))
    effects = task.commit(task.pipeline.start(TOPIC, 50, NOW_MS, lost=(1, 50)))
    assert [(each.start, each.lost) for each in effects.accounts] == [(None, (1, 50))]
    assert task.pipeline.positions() == {TOPIC: 50}


def test_positions_go_behind_the_last_record_of_each_source() -> None:
    task = Bench([contract(), contract(topic="other")])
    task.feed(record(0), record(5, topic="other"), record(8), operation(2, op="x"))
    assert task.pipeline.positions() == {TOPIC: 9, "other": 6, CONTROL: 3}


def test_what_was_processed_before_is_passed_over() -> None:
    task = Bench([contract(dedupe=None)])
    task.feed(record(0), record(1))
    task.feed(record(1), record(2))
    assert task.outputs() == [("emit", 0), ("emit", 1), ("emit", 2)]
    effects = task.feed(record(1), record(2))
    assert [each.runs for each in effects.accounts] == [()]
    assert task.pipeline.positions() == {TOPIC: 3}


def test_two_batches_of_one_topic_in_a_step_make_one_account() -> None:
    task = Bench([contract()])
    batches = [Batch(TOPIC, 5, [record(0, id=1)]), Batch(TOPIC, 5, [record(1, id=1)])]
    effects = task.commit(task.pipeline.step(batches, NOW_MS, NOW_MS))
    assert len(effects.accounts) == 1
    assert task.fates() == {0: "e", 1: "d"}


def test_a_batch_of_another_partition_is_a_fault_of_the_engine() -> None:
    task = Bench([contract()])
    with pytest.raises(AssertionError, match="partition 5"):
        task.pipeline.step([Batch(TOPIC, 4, [record(0)])], NOW_MS, NOW_MS)


def test_a_step_without_anything_to_do_is_empty() -> None:
    task = Bench([contract()])
    effects = task.step()
    assert (effects.publish, effects.accounts, effects.counts) == ([], [], {})
    assert not task.state.changelog


def test_an_operation_is_answered_with_what_was_asked() -> None:
    task = Bench([contract()])
    notice = task.feed(operation(3, op="gap.release", topic=TOPIC, key="k", id="q-1")).publish[0]
    assert (notice.topic, notice.partition, notice.key) == (INTERNAL.gaps, 5 % 3, b"k")
    assert dict(notice.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": derive_id("operation", "app", "shop", "5", "3").encode(),
        "ce_source": b"/edo/app",
        "ce_type": b"edo.operation.refused",
        "ce_subject": b"k",
        "ce_time": b"2023-11-14T22:13:20.000Z",
        "content-type": b"application/json",
    }
    assert msgspec.json.decode(notice.value or b"") == {
        "op": "gap.release",
        "topic": TOPIC,
        "key": "k",
        "id": "q-1",
        "partition": 5,
        "offset": 3,
        "at": NOW_MS,
        "reason": "unknown key",
    }


def test_an_operation_that_cannot_be_read_is_answered_too() -> None:
    task = Bench([contract()])
    unreadable = msgspec.structs.replace(operation(3), value=None)
    notice = task.feed(unreadable).publish[0]
    assert header(notice, "ce_type") == "edo.operation.refused"
    assert notice.key is None
