"""What is larger than its topic takes: nothing is written that a broker would refuse for ever."""

from dataclasses import replace as with_
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from edo_stream.core.accounts import Account, Run
from edo_stream.core.act.command import Command
from edo_stream.core.act.ladder import Ladder
from edo_stream.core.act.outcome import Done, Failed, FailureClass
from edo_stream.core.act.outlet import ActOutlet, NextRun
from edo_stream.core.act.policy import ActSpec, FlowPolicy
from edo_stream.core.act.reply import REPLY_TO, Replies
from edo_stream.core.correlation.ends import EndFeed
from edo_stream.core.correlation.joined import decode_joined
from edo_stream.core.correlation.spec import Bounds, Named, OnLate, OnTimeout, Target
from edo_stream.core.effects import Publish, account_records
from edo_stream.core.event import Event
from edo_stream.core.pieces import Split
from edo_stream.core.record import StoredRecord
from edo_stream.core.sizes import HEADROOM_BYTES, bytes_of, fits, fitting_end, fitting_letter, short
from edo_stream.core.task import Step, TaskRow
from edo_stream.core.trigger import FlowTrigger, Trigger
from tests.core import bench as plain
from tests.core.bench import IDENTITY, NOW_MS, TOPIC
from tests.correlation.bench import RESULTS, Bench, correlation, event
from tests.lookup import bench as lookups

MIB = 1 << 20
LETTERS, OUTCOMES = "edo.dead-letters.f", "edo.outcomes.f"


def said(record: Publish) -> dict[str, str]:
    return {name: (value or b"").decode() for name, value in record.headers}


def test_an_end_that_is_too_large_says_so_instead_of_its_data() -> None:
    end = Publish("t", 0, b"k", b'"%s"' % (b"x" * 2_000), [("a", b"1")], NOW_MS)
    assert end is fitting_end(end, 4_000)
    cut = fitting_end(end, 3_000)
    assert fits(cut, 3_000)
    assert {"left_out": {"bytes": 2_002}} == msgspec.json.decode(cut.value or b"")
    assert {"a": "1", "content-type": "application/json"} == said(cut)
    long = replace(end, headers=[("a", b"1"), ("b", b"y" * 5_000)])
    assert {"a", "content-type"} == set(said(fitting_end(long, 3_000)))


def test_a_letter_that_is_too_large_goes_by_reference_and_says_why() -> None:
    letter = Publish("t", 0, b"k" * 2_000, b"x" * 2_000, [("a", b"1"), ("b", b"y" * 5_000)], NOW_MS)
    why = [("edo-reason", b"too-large")]
    whole = fitting_letter(letter, why, 16_000)
    assert (letter.value, 3) == (whole.value, len(whole.headers))
    cut = fitting_letter(letter, why, 6_000)
    assert (b"", None) == (cut.key, cut.value)
    assert {"a": "1", "edo-reason": "too-large", "edo-reference": "true"} == said(cut)


def test_of_many_headers_only_so_many_are_repeated() -> None:
    kept = short([(f"h{n}", b"v" * 4_000) for n in range(20)])
    assert [f"h{n}" for n in range(8)] == [name for name, _ in kept]


def split_of(data: bytes, bytes_max: int, **more: Any) -> list[Publish]:
    ends = (EndFeed("wide", "edo.joins.w", 3, 8 * MIB), EndFeed("all", "edo.joins.j", 3, bytes_max))
    split = Split(OUTCOMES, at=("items",), ends=ends, **more)
    flow = FlowTrigger("f", "edo.commands.f", LETTERS, 8, split=split)
    record = StoredRecord(TOPIC, 5, 7, NOW_MS, b"k", None)
    found = Event("e-1", "/shop", "order.placed", b"k", data, content_type="application/json")
    return list(Trigger(IDENTITY, plain.contract(), flow).commands(record, found, NOW_MS))


@pytest.mark.parametrize(("size", "letters"), [(1_200, 0), (1_400, 1)])
def test_an_event_too_large_to_be_gathered_is_one_dead_letter_and_no_command(
    size: int, letters: int
) -> None:
    data = msgspec.json.encode({"items": [1, 2], "more": "x" * size})
    written = split_of(data, 1_024 + 1_400)
    found = [one for one in written if one.topic == LETTERS]
    assert letters == len(found)
    if not letters:
        assert ["edo.commands.f"] * 2 + ["edo.joins.w", "edo.joins.j"] == [o.topic for o in written]
        return
    (letter,) = written
    told = said(letter)
    assert ("too-large", data) == (told["edo-reason"], letter.value)
    assert "at most 2424 bytes, as flow all gathers" in told["edo-detail"]
    assert "found 1" in told["edo-detail"]


def test_an_outcome_of_no_command_fits_whatever_the_event_has() -> None:
    flow = FlowTrigger("f", "edo.commands.f", LETTERS, 8, key="record")
    extensions = tuple((f"ce_x{n}", b"v" * 3_000) for n in range(400))
    found = Event("e-1", "/shop", "order.placed", b"k", b"{}", extensions=extensions)
    for key in (b"k", b"k" * 2 * MIB):
        record = StoredRecord(TOPIC, 5, 7, NOW_MS, key, None)
        trigger = Trigger(IDENTITY, plain.contract(), flow)
        outcome = trigger.outcome(record, found, NOW_MS, "unmatched", OUTCOMES, b"{}")
        assert fits(outcome, MIB + HEADROOM_BYTES)
        assert "edo.f.unmatched" == said(outcome)["ce_type"]


def test_a_request_whose_ids_are_too_long_to_be_repeated_has_no_reply() -> None:
    flow = FlowTrigger("f", "edo.commands.f", LETTERS, 8, replies=Replies("f", "edo.replies.r", 2))
    found = Event(
        "e" * 900_000, "/shop", "order.placed", b"k", b"x" * 400_000,
        extensions=((REPLY_TO, b"edo.replies.r"),),
    )  # fmt: skip
    record = StoredRecord(TOPIC, 5, 7, NOW_MS, b"k", None)
    (letter,) = Trigger(IDENTITY, plain.contract(), flow).commands(record, found, NOW_MS)
    assert fits(letter, MIB + 2 * HEADROOM_BYTES)
    assert ("true", "too-large") == (said(letter)["edo-reference"], said(letter)["edo-reason"])
    assert "ids have at most" in said(letter)["edo-reply-refused"]


@pytest.mark.parametrize(("takes", "is_emitted"), [(None, True), (4_000, True), (2_000, False)])
def test_results_fit_a_topic_whose_own_contract_takes_less(
    takes: int | None, is_emitted: bool
) -> None:
    contract = with_(plain.contract(), emit_bytes_max=takes)
    bench = plain.Bench([contract])
    bench.feed(plain.record(0, data={"a": "x" * 1_000}))
    assert is_emitted == (contract.emit in [one.topic for one in bench.published])
    assert is_emitted != (contract.dead_letters in [one.topic for one in bench.published])


ACT_POLICY = FlowPolicy("f", "team", "edo.commands.f", OUTCOMES, LETTERS, replies="edo.replies.r")
ACT_SPEC = ActSpec(
    {"f": ACT_POLICY},
    Ladder((1_000,)),
    {1_000: "edo.retry"},
    "edo.dead-letters.g",
    ends={"f": (EndFeed("all", "edo.joins.j", 3, MIB + HEADROOM_BYTES),)},
)


def act_records(command: Command, *deeds: str) -> list[Publish]:
    step = Step(TaskRow(), NOW_MS)
    outlet = ActOutlet(IDENTITY, ACT_SPEC, step)
    why = Failed(FailureClass.POISON, "odd", "d" * 5_000)
    for deed in deeds:
        if deed == "done":
            outlet.outcome(command, ACT_POLICY, "done", Done(b'"%s"' % (b"x" * 500_000), "text/x"))
        elif deed == "retry":
            outlet.retry(command, 1_000, NextRun(NOW_MS, 2, False), "transient: odd")
        else:
            outlet.dead_letter(command, ACT_POLICY, why)
    return step.publish


@pytest.mark.parametrize("long", ["key", "correlation", "headers"])
def test_the_ends_of_a_command_as_large_as_may_be_fit_their_topics(long: str) -> None:
    size = MIB - 3_000
    headers = [("ce_id", b"c-1"), ("ce_splitof", b"e-1"), (REPLY_TO, b"edo.replies.r")]
    headers += [("ce_splitindex", b"0"), ("ce_splitcount", b"1"), ("ce_causationid", b"e-1")]
    if long == "correlation":
        headers.append(("ce_correlationid", b"r" * size))
    if long == "headers":
        headers += [(f"ce_x{n}", b"v" * 1_000) for n in range(size // 1_014)]
    command = Command(
        id="c-1", flow="f", type="t", key=b"k" * size if long == "key" else b"k", data=None,
        headers=tuple(headers), timestamp_ms=NOW_MS, origin="edo.commands.f/5/7",
        correlation_id="r" * size if long == "correlation" else None,
    )  # fmt: skip
    takes = {
        OUTCOMES: MIB + HEADROOM_BYTES,
        "edo.replies.r": MIB + HEADROOM_BYTES,
        "edo.retry": MIB + HEADROOM_BYTES,
        "edo.joins.j": MIB + HEADROOM_BYTES,
        LETTERS: MIB + 2 * HEADROOM_BYTES,
    }
    written = act_records(command, "done", "retry", "letter")
    assert {OUTCOMES, LETTERS, "edo.retry", "edo.joins.j"} <= {one.topic for one in written}
    assert [] == [(one.topic, bytes_of(one)) for one in written if not fits(one, takes[one.topic])]
    ends = [one for one in written if one.topic == OUTCOMES]
    is_cut = long != "headers"
    assert is_cut == (b"left_out" in (ends[0].value or b""))


def test_what_is_gathered_of_an_end_that_is_too_large_says_how_large_it_was() -> None:
    size = MIB - 3_000
    command = Command(
        id="c-1", flow="f", type="t", key=b"k", data=None, headers=(("ce_splitof", b"e-1"),),
        timestamp_ms=NOW_MS, origin="o", correlation_id="r" * size,
    )  # fmt: skip
    (told,) = [one for one in act_records(command, "done") if one.topic == "edo.joins.j"]
    joined = decode_joined(told.value)
    assert b'{"left_out":{"bytes":500002}}' == getattr(joined, "data", None)


def test_a_late_event_larger_than_results_may_be_is_a_dead_letter() -> None:
    kind = Named(1)
    bench = Bench([correlation(kind, ["a"], late=OnLate.APPEND)])
    bench.feed(event(0, "a", NOW_MS))
    bench.feed(event(1, "a", NOW_MS, data="x" * MIB))
    bench.feed(event(2, "a", NOW_MS))
    assert ["e0", "e2"] == [one["inputs"]["a"]["id"] for one in bench.results()]
    assert [("e1", "too-large")] == bench.letters()
    assert {0: "e", 1: "x", 2: "e"} == bench.fates()


def test_a_result_larger_than_its_topic_takes_is_told_without_its_data() -> None:
    target = Target(RESULTS, 1, RESULTS, bytes_max=100_000)
    bench = Bench([correlation(Named(2), ["a", "b"], target=target)])
    bench.feed(event(0, "a", NOW_MS, data="x" * 90_000), event(1, "b", NOW_MS, data="x" * 90_000))
    assert 180_000 < bench.results()[0]["left_out"]["bytes"]


def test_a_failure_event_and_letters_fit_topics_that_take_less_than_the_waits_hold() -> None:
    kind = Named(2)
    big = "x" * (3 * MIB)
    for policy in (OnTimeout.FAILURE, OnTimeout.DEAD_LETTER):
        waits = correlation(kind, ["a", "b"], on_timeout=policy, bounds=Bounds(bytes_max=4 * MIB))
        bench = Bench([waits])
        bench.feed(event(0, "a", NOW_MS, data=big))
        bench.tick(NOW_MS + 20_000)
        ends = [one for one in bench.published if one.topic in (OUTCOMES, LETTERS)]
        assert 1 == len(ends)
        assert fits(ends[0], MIB + HEADROOM_BYTES)
        assert {0: "f" if policy is OnTimeout.FAILURE else "x"} == bench.fates()


def test_a_row_that_the_state_does_not_take_is_a_dead_letter_and_the_one_before_stays() -> None:
    bench = lookups.Bench()
    bench.feed(bench.row("k", 1))
    bench.feed(bench.row("k", "x" * 2 * MIB))
    bench.feed(bench.event(0, "k", lookups.NOW_MS))
    assert [("command", (0, 1))] == bench.ends()
    (letter,) = [one for one in bench.published if one.topic == "edo.dead-letters.lookups-1"]
    assert ("too-large", "true") == (said(letter)["edo-reason"], said(letter)["edo-reference"])
    assert fits(letter, MIB + HEADROOM_BYTES)


def test_an_account_of_a_great_many_records_is_told_in_parts() -> None:
    settled = tuple(Run(2 * n, 1, "e") for n in range(25_000))
    account = Account("app", "g", "t", 0, NOW_MS, (Run(60_000, 5, "h"),), settled, start=60_000)
    records = account_records([account], "edo.accounts", 1, NOW_MS)
    told = [msgspec.json.decode(one.value or b"", type=Account) for one in records]
    assert 3 == len(told)
    assert all(fits(one, MIB) for one in records)
    assert settled == sum((one.settled for one in told), ())
    assert [account.runs, (), ()] == [one.runs for one in told]
    assert [60_000, None, None] == [one.start for one in told]
