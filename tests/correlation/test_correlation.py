"""What flows wait for, kind by kind: what fires, when, and what becomes of each event."""

from typing import Any

import pytest

from edo_stream.core.correlation.rows import WAIT, decode_wait
from edo_stream.core.correlation.spec import (
    Absent,
    Aggregate,
    Bounds,
    Clock,
    Correlation,
    Counted,
    Fire,
    Function,
    Keep,
    Members,
    Named,
    OnLate,
    OnTimeout,
    Ordered,
    Target,
    Windowed,
)
from edo_stream.core.headers import time_text
from tests.correlation.bench import NOW_MS, Bench, correlation, event, request, short

T = NOW_MS - 1_000_000


def both(**rest: Any) -> Correlation:
    return correlation(Named(2), ["order", "payment"], **rest)


def test_all_fires_once_when_the_last_input_has_come() -> None:
    bench = Bench([both()])
    bench.feed(event(0, "order", T), event(1, "order", T, key="other"))
    assert [] == bench.results()
    bench.feed(event(2, "payment", T + 5))
    (result,) = bench.results()
    expected = ("k", 1, "complete", "payment", "e2", {"order": "e0", "payment": "e2"})
    assert expected == short(result)
    assert result["complete"] is True
    assert result["missing"] == []
    assert result["inputs"]["order"]["data"] == {"n": 0}
    bench.feed(event(3, "payment", T + 6), event(4, "order", T + 7))
    bench.tick(NOW_MS)
    assert 1 == len([each for each in bench.results() if each["key"] == "k"])
    assert {0: "e", 1: "f", 2: "e", 3: "l", 4: "l"} == bench.fates()


def test_a_firing_has_the_same_id_after_a_crash_and_another_one_for_another_key() -> None:
    ids = []
    for key in ("k", "k", "other"):
        bench = Bench([both()])
        bench.feed(event(0, "order", T, key=key))
        bench.step(event(1, "payment", T, key=key))
        bench.pipeline.discard()
        bench.open()
        bench.feed(event(0, "order", T, key=key), event(1, "payment", T, key=key))
        (published,) = [each for each in bench.published if each.topic == "shop.order.ready"]
        ids.append(dict(published.headers)["ce_id"])
    assert ids[0] == ids[1] != ids[2]


def test_a_deadline_waits_until_the_log_is_read() -> None:
    bench = Bench([both(on_timeout=OnTimeout.PARTIAL)])
    bench.feed(event(0, "order", T))
    bench.commit(bench.step(now_ms=T + 50_000, caught_up_ms=T + 9_999))
    assert [] == bench.results()
    # It was in the log all the time, behind an outage.
    bench.feed(event(1, "payment", T + 9_000))
    assert ["complete"] == [each["reason"] for each in bench.results()]


def test_what_is_beyond_the_deadline_waits_for_what_comes_after_it() -> None:
    bench = Bench([both(late=OnLate.NEW_RUN, on_timeout=OnTimeout.PARTIAL)])
    bench.feed(event(0, "order", T), event(1, "payment", T + 10_001))
    assert [] == bench.results()
    bench.tick(T + 10_000)
    bench.feed(event(2, "order", T + 10_500))
    assert [
        ("k", 1, "timeout", "deadline", None, {"order": "e0"}),
        ("k", 2, "complete", "order", "e2", {"order": "e2", "payment": "e1"}),
    ] == [short(each) for each in bench.results()]


@pytest.mark.parametrize(
    ("policy", "reasons", "fate"),
    [
        (OnTimeout.PARTIAL, ["timeout"], "e"),
        (OnTimeout.FALLBACK, ["fallback"], "e"),
        (OnTimeout.FAILURE, ["timeout"], "f"),
        (OnTimeout.DEAD_LETTER, [], "x"),
        (OnTimeout.DROP, [], "s"),
    ],
)
def test_what_comes_of_a_deadline(policy: OnTimeout, reasons: list[str], fate: str) -> None:
    bench = Bench([both(on_timeout=policy)])
    bench.feed(event(0, "order", T))
    bench.tick(T + 9_999)
    assert {0: "h"} == bench.fates()
    bench.tick(T + 10_000)
    assert reasons == [each["reason"] for each in bench.results()]
    assert all(each["missing"] == ["payment"] for each in bench.results())
    assert {0: fate} == bench.fates()
    wanted = [("e0", "correlation-timeout")] if policy is OnTimeout.DEAD_LETTER else []
    assert wanted == bench.letters()
    assert bench.pipeline.next_due_ms() is None


@pytest.mark.parametrize(
    ("policy", "more", "fate"),
    [
        (OnLate.DROP, [], "l"),
        (OnLate.DEAD_LETTER, [], "x"),
        (OnLate.APPEND, [("k", 1, "late", "order", "e2", {"order": "e2"})], "e"),
        (OnLate.NEW_RUN, [], "h"),
    ],
)
def test_what_comes_of_a_late_event(policy: OnLate, more: list[Any], fate: str) -> None:
    bench = Bench([both(late=policy)])
    bench.feed(event(0, "order", T), event(1, "payment", T), event(2, "order", T + 1))
    assert more == [short(each) for each in bench.results()[1:]]
    assert fate == bench.fates()[2]


def test_each_completion_fires_again() -> None:
    bench = Bench([both(fire=Fire.EACH)])
    names = ["order", "payment", "payment", "order"]
    bench.feed(*(event(offset, name, T + offset) for offset, name in enumerate(names)))
    assert [1, 2] == [each["firing"] for each in bench.results()]
    ids = [dict(each.headers)["ce_id"] for each in bench.published if "ready" in each.topic]
    assert 2 == len(set(ids))


@pytest.mark.parametrize(("keep", "kept"), [(Keep.FIRST, "e0"), (Keep.LAST, "e1")])
def test_of_several_events_of_an_input_one_stays(keep: Keep, kept: str) -> None:
    bench = Bench([both(keep=keep)])
    bench.feed(event(0, "order", T), event(1, "order", T + 1), event(2, "payment", T + 2))
    (result,) = bench.results()
    assert kept == result["inputs"]["order"]["id"]
    assert sorted("ees") == sorted(bench.fates().values())


def test_any_and_some_of_the_inputs() -> None:
    bench = Bench(
        [
            correlation(Named(1), "abc", flow="any"),
            correlation(Named(2), "abc", flow="two"),
        ]
    )
    events = [
        event(2 * at + n, name, T, flow=flow)
        for at, name in enumerate("bca")
        for n, flow in enumerate(("any", "two"))
    ]
    bench.feed(*events)
    found = [(each["flow"], each["completed_by"], [*each["inputs"]]) for each in bench.results()]
    assert [("any", "b", ["b"]), ("two", "c", ["b", "c"])] == found


def test_what_does_not_open_a_wait_counts_by_look_back() -> None:
    bench = Bench([both(opens=frozenset({"order"}), look_back_ms=100)])
    bench.feed(event(0, "payment", T - 100), event(1, "order", T))
    bench.feed(event(2, "payment", T - 101, key="b"), event(3, "order", T, key="b"))
    assert ["k"] == [each["key"] for each in bench.results()]
    assert {0: "e", 1: "e", 2: "s", 3: "h"} == bench.fates()


def test_what_came_early_and_opens_nothing_goes_after_a_minute() -> None:
    bench = Bench([both(opens=frozenset({"order"}))])
    bench.feed(event(0, "payment", T))
    bench.tick(T + 59_999)
    assert {0: "h"} == bench.fates()
    bench.tick(T + 60_000)
    assert {0: "s"} == bench.fates()
    assert [] == [row for row in bench.rows.rows if row[:1] in b"wte"]


def test_a_number_of_events() -> None:
    bench = Bench([correlation(Counted(3), ["file"])])
    bench.feed(*(event(offset, "file", T) for offset in range(4)))
    (result,) = bench.results()
    assert {"file": ["e0", "e1", "e2"]} == short(result)[-1]
    assert (3, 3) == (result["count"], result["expected"])
    assert "l" == bench.fates()[3]


@pytest.mark.parametrize("manifest_at", [0, 1, 2])
def test_the_manifest_says_how_many(manifest_at: int) -> None:
    bench = Bench([correlation(Counted(manifest="manifest"), ["file"])])
    for offset in range(3):
        if offset == manifest_at:
            bench.feed(event(offset, "manifest", T, expect=2))
        else:
            bench.feed(event(offset, "file", T))
    (result,) = bench.results()
    files = [f"e{offset}" for offset in range(3) if offset != manifest_at]
    assert {"file": files, "manifest": f"e{manifest_at}"} == short(result)[-1]


def test_members_are_counted_once_each() -> None:
    bench = Bench([correlation(Counted(2), ["file"])])
    bench.feed(event(0, "file", T, member="eu"), event(1, "file", T, member="eu"))
    assert [] == bench.results()
    bench.feed(event(2, "file", T, member="us"))
    assert {"file": ["e1", "e2"]} == short(bench.results()[0])[-1]


def test_a_set_is_complete_with_its_last_member() -> None:
    bench = Bench([correlation(Members(("eu", "us")), ["file"], on_timeout=OnTimeout.PARTIAL)])
    bench.feed(event(0, "file", T, member="us"), event(1, "file", T, member="mars"))
    assert [("e1", "unexpected-member")] == bench.letters()
    bench.feed(event(2, "file", T, member="us", key="late"))
    bench.feed(event(3, "file", T, member="eu"))
    bench.tick(T + 10_000)
    first, second = bench.results()
    assert {"file": ["e3", "e0"]} == short(first)[-1]
    assert ["eu"] == second["missing"]


def test_the_manifest_lists_the_members() -> None:
    bench = Bench([correlation(Members(manifest="manifest"), ["file"])])
    bench.feed(event(0, "file", T, member="a"), event(1, "file", T, member="z"))
    bench.feed(event(2, "manifest", T, members=("a", "b")), event(3, "file", T, member="b"))
    assert [("e1", "unexpected-member")] == bench.letters()
    assert {"file": ["e0", "e3"], "manifest": "e2"} == short(bench.results()[0])[-1]


def test_a_fallback_fires_only_if_the_events_have_not() -> None:
    wanted = correlation(Members(("eu", "us")), ["file"], fallback="tick", within_ms=100_000)
    bench = Bench([wanted])
    bench.feed(
        event(0, "file", T, "monday", member="eu"),
        event(1, "file", T, "monday", member="us"),
        event(2, "tick", T + 5, "monday"),
        event(3, "file", T + 6, "tuesday", member="eu"),
        event(4, "tick", T + 7, "tuesday"),
        event(5, "file", T + 8, "tuesday", member="us"),
        event(6, "tick", T + 9, "wednesday"),
    )
    assert [
        ("monday", 1, "complete", "file", "e1"),
        ("tuesday", 1, "fallback", "tick", "e4"),
        ("wednesday", 1, "fallback", "tick", "e6"),
    ] == [short(each)[:-1] for each in bench.results()]
    assert ["us"] == bench.results()[1]["missing"]
    assert dict(enumerate("eeleele")) == bench.fates()


def test_a_sequence_goes_by_the_times_of_its_events() -> None:
    bench = Bench([correlation(Ordered(), "abc", fire=Fire.EACH, on_timeout=OnTimeout.DROP)])
    bench.feed(event(0, "b", T + 2), event(1, "c", T + 3), event(2, "c", T + 1))
    bench.feed(event(3, "a", T + 1))
    assert {"a": "e3", "b": "e0", "c": "e1"} == short(bench.results()[0])[-1]
    bench.tick(T + 20_000)
    assert {0: "e", 1: "e", 2: "s", 3: "e"} == bench.fates()


def test_a_sequence_that_is_too_long_is_none() -> None:
    bench = Bench([correlation(Ordered(), "ab", fire=Fire.EACH)])
    bench.feed(event(0, "a", T), event(1, "b", T + 10_001), event(2, "a", T + 10_000))
    assert {"a": "e2", "b": "e1"} == short(bench.results()[0])[-1]
    bench.tick(T + 10_000)
    assert "timeout" == bench.results()[1]["reason"]


def test_an_absence_fires_at_its_deadline() -> None:
    wanted = correlation(Absent("order", "payment"), ["order", "payment"])
    bench = Bench([wanted])
    bench.feed(event(0, "order", T), event(1, "order", T, key="paid"))
    bench.feed(event(2, "payment", T + 10_000, key="paid"))
    bench.tick(T + 10_000)
    (result,) = bench.results()
    assert ("k", 1, "absent", "deadline", None, {"order": "e0"}) == short(result)
    assert ["payment"] == result["missing"]
    assert {0: "e", 1: "s", 2: "s"} == bench.fates()


SILENCE = correlation(
    Absent("order", "payment"), ["order", "payment"], fire=Fire.EACH, late=OnLate.NEW_RUN
)


@pytest.mark.parametrize("seconds", [(0, 3, 6, 8), (6, 8, 0, 3), (8, 6, 3, 0)])
def test_a_silence_is_told_with_what_it_follows(seconds: tuple[int, ...]) -> None:
    """And once for the time that it lasts: what lies between the first and the last is in it."""
    bench = Bench([SILENCE])
    bench.feed(*(event(n, "order", T + 1_000 * at) for n, at in enumerate(seconds)))
    bench.tick(T + 10_000)
    (result,) = bench.results()
    assert {"order": f"e{seconds.index(0)}"} == short(result)[-1]
    assert (time_text(T) or b"").decode() == result["opened"]
    fates = {0: "e", 3: "s", 6: "s", 8: "h"}
    assert fates == {at: bench.fates()[n] for n, at in enumerate(seconds)}
    bench.feed(event(4, "payment", T + 12_000))
    bench.tick(T + 30_000)
    assert [result] == bench.results()
    assert "sss" == "".join(bench.fates()[n] for n in (seconds.index(3), seconds.index(8), 4))


def test_a_silence_after_the_last_is_told_as_well() -> None:
    bench = Bench([SILENCE])
    bench.feed(event(0, "order", T), event(1, "order", T + 8_000))
    bench.tick(T + 18_000)
    assert [{"order": "e0"}, {"order": "e1"}] == [short(one)[-1] for one in bench.results()]


def test_what_follows_the_first_follows_those_before_it_too() -> None:
    bench = Bench([SILENCE])
    bench.feed(event(0, "order", T), event(1, "order", T + 8_000), event(2, "payment", T + 9_000))
    bench.tick(T + 30_000)
    assert ([], {0: "s", 1: "s", 2: "s"}) == (bench.results(), bench.fates())


@pytest.mark.parametrize(("before_ms", "fires"), [(-1, False), (0, False), (1, True)])
def test_an_absence_goes_by_times_not_by_what_is_read_first(before_ms: int, fires: bool) -> None:
    wanted = correlation(Absent("order", "payment"), ["order", "payment"])
    bench = Bench([wanted])
    bench.feed(event(0, "payment", T - before_ms), event(1, "order", T))
    bench.tick(T + 10_000)
    assert fires == bool(bench.results())


@pytest.mark.parametrize("names", [("next", "beat"), ("beat", "next")])
def test_an_event_of_both_inputs_does_not_follow_itself(names: tuple[str, str]) -> None:
    wanted = correlation(Absent("beat", "next"), ["beat", "next"], fire=Fire.EACH)
    bench = Bench([wanted])
    for at in range(3):
        place = {"position": f"shop.beat/0/{at}"}
        bench.feed(
            *(event(2 * at + n, name, T + 5_000 * at, **place) for n, name in enumerate(names))
        )
        bench.tick(T + 5_000 * at)
    assert [] == bench.results()
    bench.tick(T + 19_999)
    assert [] == bench.results()
    bench.tick(T + 20_000)
    (result,) = bench.results()
    assert "shop.beat/0/2" == result["inputs"]["beat"]["position"]


SUMS = {
    "n": Aggregate(Function.COUNT),
    "total": Aggregate(Function.SUM, ("n",)),
    "mean": Aggregate(Function.AVG, ("n",)),
    "last": Aggregate(Function.LAST, ("n",)),
    "kinds": Aggregate(Function.DISTINCT, ("n",)),
    "nothing": Aggregate(Function.MAX, ("m",)),
}


def test_a_tumbling_window_fires_at_its_end() -> None:
    start = T // 1_000 * 1_000
    bench = Bench([correlation(Windowed(1_000, 1_000, aggregates=SUMS), ["sale"])])
    bench.feed(*(event(n, "sale", start + at) for n, at in enumerate([0, 999, 1_000])))
    bench.tick(start + 999)
    assert [] == bench.results()
    bench.tick(start + 1_000)
    (result,) = bench.results()
    assert {"sale": ["e0", "e1"]} == short(result)[-1]
    values = {"n": 2, "total": 1, "mean": 0.5, "last": 1, "kinds": 2, "nothing": None}
    assert values == result["aggregates"]
    bench.feed(event(3, "sale", start + 5))
    assert "l" == bench.fates()[3]


def test_an_event_is_in_each_sliding_window_that_covers_it() -> None:
    start = T // 1_000 * 1_000
    bench = Bench([correlation(Windowed(1_000, 500), ["sale"])])
    bench.feed(event(0, "sale", start + 100), event(1, "sale", start + 700))
    bench.tick(start + 10_000)
    assert [["e0"], ["e0", "e1"], ["e1"]] == [each["inputs"]["sale"] for each in shorts(bench)]
    assert {0: "e", 1: "e"} == bench.fates()


def shorts(bench: Bench) -> list[dict[str, Any]]:
    return [{"inputs": short(each)[-1]} for each in bench.results()]


def test_a_session_lasts_while_events_keep_coming() -> None:
    bench = Bench([correlation(Windowed(gap_ms=100), ["click"])])
    bench.feed(event(0, "click", T), event(1, "click", T + 180), event(2, "click", T + 90))
    bench.tick(T + 200)
    assert [] == bench.results()
    bench.feed(event(3, "click", T + 280))
    bench.tick(T + 380)
    assert [["e0", "e2", "e1"], ["e3"]] == [each["inputs"]["click"] for each in shorts(bench)]


def test_a_session_that_has_gone_on_says_until_when() -> None:
    bench = Bench([correlation(Windowed(gap_ms=100), ["click"])])
    bench.feed(event(0, "click", T), event(1, "click", T + 90))
    bench.tick(T + 100)
    row = decode_wait(bench.rows.rows[WAIT + b"f\0k"])
    assert (T + 190, T + 190) == (row.until_ms, row.due_ms)


def test_event_time_is_the_events_own() -> None:
    bench = Bench([both(clock=Clock.EVENT, grace_ms=500)])
    bench.feed(event(0, "order", T + 99_000, time_ms=T))
    bench.feed(event(1, "payment", T + 99_000, time_ms=T + 10_001))
    assert T + 10_500 == bench.pipeline.next_due_ms()
    bench.tick(T + 10_500)
    assert ["timeout"] == [each["reason"] for each in bench.results()]


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        (Bounds(open_max=1), "correlations-full"),
        (Bounds(events_max=2), "correlation-full"),
        (Bounds(bytes_max=500), "correlation-full"),
    ],
)
def test_what_finds_a_bound_reached_is_a_dead_letter(bounds: Bounds, reason: str) -> None:
    bench = Bench([correlation(Counted(9), ["file"], bounds=bounds)])
    bench.feed(*(event(n, "file", T) for n in range(3)), event(3, "file", T, key="other"))
    assert reason in [found for _, found in bench.letters()]
    (counters, since_ms) = bench.pipeline.open_waits()["f"]
    assert len(bench.letters()) == counters.refused
    assert T == since_ms
    bench.tick(T + 10_000)
    assert (0, 0) == (bench.pipeline.open_waits()["f"][0].open, counters.held)


def test_an_operator_fires_and_ends_waits() -> None:
    bench = Bench([both()])
    bench.feed(*(event(n, "order", T, key=key) for n, key in enumerate("ab")))
    bench.feed(request(0, "wait.force", "a"), request(1, "wait.expire", "b"))
    bench.feed(request(2, "wait.force", "a"), request(3, "wait.force", "none"))
    reasons = [(each["key"], each["reason"]) for each in bench.results()]
    assert [("a", "forced"), ("b", "timeout")] == reasons
    answers = [each["op"] + each.get("reason", "") for each in bench.results("edo.gaps")]
    assert [
        "wait.force",
        "wait.expire",
        "wait.forceits wait is over: forced",
        "wait.forcenothing waits",
    ] == answers
    bench.feed(request(4, "wait.expire", "a"), event(2, "order", T, key="a"))
    assert "h" == bench.fates()[2]


def test_a_key_that_is_over_is_forgotten() -> None:
    bench = Bench([both(remember_ms=16_000)])
    bench.feed(event(0, "order", T), event(1, "payment", T))
    bench.feed(event(2, "order", T + 17_000))
    assert "l" == bench.fates()[2]
    bench.feed(event(3, "other", T + 40_000, key="x", flow="gone"))
    assert {3: "i"}.items() <= bench.fates().items()
    bench.feed(event(4, "order", T + 40_001))
    assert "h" == bench.fates()[4]


def test_rows_of_forgotten_keys_are_swept() -> None:
    bench = Bench([both(remember_ms=16_000)])
    for n in range(200):
        at_ms = T + n * 1_000
        bench.feed(
            event(2 * n, "order", at_ms, f"k{n}"), event(2 * n + 1, "payment", at_ms, f"k{n}")
        )
    assert 100 > sum(row[:1] == b"w" for row in bench.rows.rows)


def test_what_is_no_event_is_a_dead_letter() -> None:
    bench = Bench([both()])
    record = event(0, "order", T)
    bench.feed(type(record)(record.topic, 0, 0, T, b"k", b"\xc1junk"))
    bench.feed(event(1, "nobody", T))
    assert {0: "x", 1: "x"} == bench.fates()
    assert [("e1", "unknown-input")] == bench.letters()


def test_a_command_goes_to_the_flows_commands() -> None:
    target = Target("edo.commands.f", 8, "edo.f.ready", is_command=True)
    bench = Bench([both(target=target)])
    bench.feed(event(0, "order", T), event(1, "payment", T))
    (command,) = [each for each in bench.published if each.topic == "edo.commands.f"]
    headers = dict(command.headers)
    assert (b"k", b"edo.f.ready", b"f") == (command.key, headers["ce_type"], headers["edo-flow"])
    assert b"e1" == headers["ce_causationid"]


def test_late_events_of_several_windows_each_come_into_a_result() -> None:
    wanted = correlation(Windowed(10_000, 10_000), ["a"], late=OnLate.NEW_RUN, fire=Fire.EACH)
    bench = Bench([wanted])
    start = T // 10_000 * 10_000
    bench.feed(event(0, "a", start + 50_000))
    bench.tick(start + 60_000)
    bench.feed(event(1, "a", start + 5_000), event(2, "a", start + 25_000))
    bench.tick(NOW_MS)
    assert [["e0"], ["e1"], ["e2"]] == [
        [one["id"] for one in each["inputs"]["a"]] for each in bench.results()
    ]
    assert {0: "e", 1: "e", 2: "e"} == bench.fates()


def test_what_comes_behind_a_session_that_was_cut_is_of_the_next_one() -> None:
    bench = Bench([correlation(Windowed(gap_ms=100, session_max_ms=150), ["click"])])
    bench.feed(*(event(n, "click", T + at) for n, at in enumerate((0, 90, 140, 160))))
    bench.tick(T + 240)
    bench.feed(event(4, "click", T + 230))
    bench.tick(T + 1_000)
    assert [["e0", "e1", "e2"], ["e3", "e4"]] == [each["inputs"]["click"] for each in shorts(bench)]
