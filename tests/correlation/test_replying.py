"""Requests among the events that a flow waits for: each is told of its end, once."""

import dataclasses
from collections import Counter
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from edo_stream.core.asked import ASKERS, ASKERS_MAX, REFUSED, Asker, Replies, decode_askers
from edo_stream.core.correlation.ends import RESULTS as ENDS
from edo_stream.core.correlation.ends import SPLIT
from edo_stream.core.correlation.joined import Joined, decode_joined, encode_joined
from edo_stream.core.correlation.spec import (
    Absent,
    Batched,
    Correlation,
    Counted,
    Debounced,
    Fire,
    Keep,
    Named,
    OnFailed,
    OnLate,
    OnTimeout,
    Windowed,
)
from edo_stream.core.effects import Publish
from edo_stream.core.record import Record, StoredRecord
from tests.correlation.bench import NOW_MS, RESULTS, Bench, correlation, event, request
from tests.correlation.test_properties import CORRELATIONS, STEPS, Steps, record_of, timeline

TOPIC = "edo.replies.shop"
REPLIES = Replies("f", TOPIC, 4)
T = NOW_MS - 1_000_000


def asking(record: Record, place: int | str = 3) -> StoredRecord:
    """The same event, which asks for a reply."""
    joined = decode_joined(record.value)
    assert isinstance(joined, Joined)
    asker = Asker(place, f"r{record.offset}", f"talk {record.offset}")
    value = encode_joined(replace(joined, asker=asker))
    key, at_ms = record.key, record.timestamp
    return StoredRecord(record.topic, 0, record.offset, at_ms, key, value)


def bench_of(wanted: Correlation) -> Bench:
    target = dataclasses.replace(wanted.target, is_command=True)
    return Bench([dataclasses.replace(wanted, replies=REPLIES, target=target)])


def told(bench: Bench) -> list[tuple[str, str, str]]:
    """Replies without a command: of which request, how it has ended, and why."""
    found = [one for one in bench.published if one.topic == TOPIC]
    return [
        (said(one, "ce_edorequestid"), said(one, "ce_type").rpartition(".")[2], why(one))
        for one in found
    ]


def said(one: Publish, name: str) -> str:
    return (dict(one.headers)[name] or b"").decode()


def why(one: Publish) -> str:
    reason: str = msgspec.json.decode(one.value or b"")["reason"]
    return reason


def asked(bench: Bench) -> list[list[str]]:
    """Requests that each command tells of its end."""
    found = [dict(one.headers) for one in bench.published if one.topic == RESULTS]
    return [
        [one.request for one in decode_askers(headers.get(ASKERS) or b"[]")] for headers in found
    ]


@settings(max_examples=400, deadline=None)
@given(CORRELATIONS, STEPS, st.integers())
def test_each_request_is_told_once_whatever_becomes_of_it(
    wanted: Correlation, steps: Steps, seed: int
) -> None:
    if isinstance(wanted.kind, Windowed) and wanted.kind.size_ms != wanted.kind.every_ms:
        return  # No file can say that such a flow replies.
    random, bench, requests = Random(seed), bench_of(wanted), []
    for now_ms, items, is_caught_up in timeline(wanted, steps):
        records = [record_of(*each) for each in items]
        for number, record in enumerate(records):
            if random.random() < 0.5:
                records[number] = asking(record)
                requests.append(f"r{record.offset}")
        if random.random() < 0.3:
            bench.step(*records, now_ms=now_ms)
            bench.open()
        bench.feed(*records, now_ms=now_ms)
        if is_caught_up:
            bench.tick(now_ms)
    by_command = [one for command in asked(bench) for one in command]
    by_itself = [one for one, _, _ in told(bench)]
    assert sorted(requests) == sorted(by_command + by_itself)
    fates = bench.fates()
    assert {one for one in requests if fates[int(one[1:])] == "e"} == set(by_command)


@pytest.mark.parametrize(
    ("policy", "end"),
    [
        (OnTimeout.FAILURE, ("r0", "failed", "timeout")),
        (OnTimeout.DEAD_LETTER, ("r0", "dead-letter", "correlation-timeout")),
        (OnTimeout.DROP, ("r0", "failed", "timeout")),
    ],
)
def test_a_wait_that_times_out_is_told(policy: OnTimeout, end: tuple[str, str, str]) -> None:
    bench = bench_of(correlation(Named(2), ["order", "payment"], on_timeout=policy))
    bench.feed(asking(event(0, "order", T)))
    assert [] == told(bench)
    bench.tick(NOW_MS)
    assert [end] == told(bench)
    (reply,) = [one for one in bench.published if one.topic == TOPIC]
    assert (3, "edo.f." + end[1], "talk 0") == (
        reply.partition,
        said(reply, "ce_type"),
        said(reply, "ce_correlationid"),
    )


def test_a_partial_result_is_a_command_like_another() -> None:
    bench = bench_of(correlation(Named(2), ["order", "payment"], on_timeout=OnTimeout.PARTIAL))
    bench.feed(asking(event(0, "order", T)))
    bench.tick(NOW_MS)
    assert ([], [["r0"]]) == (told(bench), asked(bench))


def test_each_of_several_requests_is_told_by_their_command() -> None:
    bench = bench_of(correlation(Named(2), ["order", "payment"]))
    bench.feed(asking(event(0, "order", T)), asking(event(1, "payment", T)))
    assert ([], [["r0", "r1"]]) == (told(bench), asked(bench))


def test_a_request_that_is_read_twice_is_told_once() -> None:
    bench = bench_of(correlation(Counted(2), ["order"]))
    first = asking(event(0, "order", T))
    bench.feed(first, StoredRecord(first.topic, 0, 1, T, first.key, first.value))
    assert [["r0"]] == asked(bench)


def test_an_operator_who_ends_a_wait_ends_its_requests() -> None:
    bench = bench_of(correlation(Named(2), ["order", "payment"]))
    bench.feed(asking(event(0, "order", T)))
    bench.feed(request(0, "wait.expire"))
    assert [("r0", "failed", "timeout")] == told(bench)
    bench = bench_of(correlation(Absent("order", "payment"), ["order", "payment"]))
    bench.feed(asking(event(0, "order", T)))
    bench.feed(request(0, "wait.expire"))
    assert [("r0", "failed", "dropped")] == told(bench)


def test_what_another_event_replaces_or_contradicts_is_told() -> None:
    bench = bench_of(correlation(Named(2), ["order", "payment"], keep=Keep.LAST))
    bench.feed(asking(event(0, "order", T)), asking(event(1, "order", T + 1)))
    assert [("r0", "failed", "stale")] == told(bench)
    bench = bench_of(correlation(Absent("order", "payment"), ["order", "payment"]))
    bench.feed(asking(event(0, "order", T)), asking(event(1, "payment", T + 1)))
    assert [("r1", "failed", "stale"), ("r0", "failed", "stale")] == told(bench)


def test_what_comes_late_is_told() -> None:
    bench = bench_of(correlation(Named(1), ["order"], fire=Fire.ONCE, late=OnLate.DROP))
    bench.feed(asking(event(0, "order", T)), asking(event(1, "order", T + 1)))
    assert ([("r1", "failed", "late")], [["r0"]]) == (told(bench), asked(bench))


def test_the_request_of_a_split_event_is_told_of_the_whole() -> None:
    wanted = correlation(Counted(manifest=SPLIT, is_gathered=True), [ENDS])
    bench = bench_of(wanted)
    bench.feed(asking(event(0, SPLIT, T, expect=2)))
    bench.feed(event(1, ENDS, T, member="0", expect=2))
    assert [] == asked(bench)
    bench.feed(event(2, ENDS, T, member="1", expect=2))
    assert ([], [["r0"]]) == (told(bench), asked(bench))


def test_a_part_that_fails_fails_the_whole_where_the_flow_says_so() -> None:
    kind = Counted(manifest=SPLIT, is_gathered=True)
    bench = bench_of(correlation(kind, [ENDS], failed=OnFailed.FAILURE))
    bench.feed(asking(event(0, SPLIT, T, expect=1)))
    bench.feed(event(1, ENDS, T, member="0", expect=1, is_failed=True))
    assert ([("r0", "failed", "failed")], []) == (told(bench), asked(bench))


def test_all_of_a_batch_are_told_and_of_what_is_debounced_the_last() -> None:
    rest: dict[str, Any] = {"fire": Fire.EACH, "late": OnLate.NEW_RUN}
    bench = bench_of(correlation(Batched(3, 9_999, 10_000), ["event"], **rest))
    bench.feed(*(asking(event(number, "event", T + number)) for number in range(3)))
    assert ([], [["r0", "r1", "r2"]]) == (told(bench), asked(bench))
    bench = bench_of(correlation(Debounced(10, 100), ["event"], **rest))
    bench.feed(*(asking(event(number, "event", T + number)) for number in range(3)))
    bench.tick(NOW_MS)
    stale = [("r0", "failed", "stale"), ("r1", "failed", "stale")]
    assert (stale, [["r2"]]) == (told(bench), asked(bench))


def test_a_command_tells_so_many_and_the_others_are_told_at_once() -> None:
    bench = bench_of(correlation(Counted(ASKERS_MAX + 2), ["order"]))
    bench.feed(*(asking(event(number, "order", T)) for number in range(ASKERS_MAX + 2)))
    (command,) = asked(bench)
    assert ASKERS_MAX == len(command)
    assert {"too-many-requests"} == {reason for _, _, reason in told(bench)}
    every = Counter([*command, *(one for one, _, _ in told(bench))])
    assert {f"r{number}": 1 for number in range(ASKERS_MAX + 2)} == dict(every)


def test_a_place_that_there_is_none_of_is_named_by_the_command() -> None:
    bench = bench_of(correlation(Named(1), ["order"]))
    bench.feed(asking(event(0, "order", T), "elsewhere: flow f replies on edo.replies.shop alone"))
    assert ([], [[]]) == (told(bench), asked(bench))
    (command,) = [one for one in bench.published if one.topic == RESULTS]
    assert said(command, REFUSED).startswith("elsewhere")


def test_a_flow_that_ends_in_an_event_replies_with_it() -> None:
    wanted = correlation(Named(2), ["order", "payment"], on_timeout=OnTimeout.PARTIAL)
    bench = Bench([dataclasses.replace(wanted, replies=REPLIES)])
    bench.feed(asking(event(0, "order", T)), asking(event(1, "payment", T)))
    bench.feed(asking(event(2, "order", T, key="alone")))
    bench.tick(NOW_MS)
    replies = [one for one in bench.published if one.topic == TOPIC]
    results = [one for one in bench.published if one.topic == RESULTS]
    assert ["r0", "r1", "r2"] == [said(one, "ce_edorequestid") for one in replies]
    assert ["edo.f.done"] * 3 == [said(one, "ce_type") for one in replies]
    first, alone = (one.value for one in results)
    assert [first, first, alone] == [one.value for one in replies]
    assert not any(ASKERS in dict(one.headers) for one in results)
