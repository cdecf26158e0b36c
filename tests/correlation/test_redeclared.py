"""Flows whose declaration changes while something waits: nothing raises, and nothing vanishes."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from random import Random
from typing import Any

import pytest

from edo_stream.core.accounts import Fate
from edo_stream.core.correlation.rows import FLOW, WAIT, FlowRow, decode_flow
from edo_stream.core.correlation.spec import (
    Absent,
    Batched,
    Bounds,
    Correlation,
    Counted,
    Debounced,
    Fire,
    Keep,
    Kind,
    Members,
    Named,
    OnFailed,
    OnLate,
    OnTimeout,
    Ordered,
    Target,
    Windowed,
)
from edo_stream.core.record import StoredRecord
from tests.correlation.bench import NOW_MS, RESULTS, Bench, correlation, event, request
from tests.correlation.test_history import HISTORY, folded, kept, told

_INPUTS = ("a", "b", "c", "m")
_WITHIN_MS = 10_000
_ENDS = {
    fate.value
    for fate in (
        Fate.EMITTED,
        Fate.FAILED,
        Fate.STALE,
        Fate.LATE,
        Fate.DROPPED,
        Fate.DEAD_LETTERED,
    )
}
KINDS: dict[str, Callable[[], Correlation]] = {
    "all": lambda: correlation(Named(3), "abc", history=HISTORY),
    "any": lambda: correlation(Named(1), "abc", fallback="m"),
    "some of others": lambda: correlation(Named(2), "abm"),
    "opened by one": lambda: correlation(Named(3), "abc", opens=frozenset("b"), look_back_ms=500),
    "sequence": lambda: correlation(Ordered(), "abc"),
    "absence": lambda: correlation(Absent("a", "b"), "ab"),
    "number": lambda: correlation(Counted(3), "ab"),
    "number told": lambda: correlation(Counted(manifest="m"), "abc"),
    "number carried": lambda: correlation(Counted(), "abc"),
    "ends": lambda: correlation(
        Counted(is_gathered=True), "a", failed=OnFailed.WAIT, history=HISTORY
    ),
    "list": lambda: correlation(Members(("x", "y", "z")), "abc"),
    "list told": lambda: correlation(Members(manifest="m"), "abc"),
    "tumbling": lambda: correlation(Windowed(2_000, 2_000), "abc", history=HISTORY),
    "sliding": lambda: correlation(Windowed(4_000, 1_000), "abc", grace_ms=500),
    "session": lambda: correlation(Windowed(gap_ms=2_000), "abc"),
    "debounce": lambda: correlation(Debounced(1_000, 3_000), ["event"], history=HISTORY),
    "batch": lambda: correlation(Batched(4, 4_096, 3_000), ["event"]),
}


def declared(name: str, chance: Random) -> Correlation:
    """A flow of a kind; how it ends, and what becomes of late events, by chance."""
    wanted = KINDS[name]()
    parts: dict[str, Any] = {
        "within_ms": _WITHIN_MS,
        "on_timeout": chance.choice(list(OnTimeout)),
        "late": chance.choice(list(OnLate)),
        "fire": chance.choice(list(Fire)),
        "keep": chance.choice(list(Keep)),
        "bounds": Bounds(events_max=chance.choice([3, 100]), open_max=chance.choice([2, 100])),
    }
    combines = isinstance(wanted.kind, Debounced | Batched)
    if combines:
        parts |= {"fire": Fire.EACH, "late": OnLate.NEW_RUN}
    return replace(wanted, **parts)


class Life:
    """A task, and what happens to it by chance."""

    def __init__(self, seed: object) -> None:
        self.chance = Random(str(seed))
        self.bench = Bench([])
        self.now_ms = NOW_MS
        self.offsets = {"event": 0, "request": 0}

    def declare(self, name: str, **rest: Any) -> None:
        """The next worker has the flow as this kind."""
        wanted = replace(declared(name, self.chance), **rest)
        self.bench.correlations = [wanted]
        published, accounts = self.bench.published, self.bench.accounts
        self.bench.__post_init__()
        assert self.bench.published is published
        assert self.bench.accounts is accounts

    def live(self, acts: int) -> None:
        for _ in range(acts):
            self.chance.choices([self.come, self.pass_time, self.ask, self.crash], [6, 2, 1, 1])[
                0
            ]()

    def come(self) -> None:
        chance, records = self.chance, []
        for _ in range(chance.randrange(1, 4)):
            name = chance.choice(_INPUTS)
            at_ms = self.now_ms - chance.choice([0, 0, 10, 1_500, 12_000])
            parts: dict[str, Any] = {}
            if chance.random() < 0.8:
                parts["member"] = chance.choice([*"xyz", "0", "1", "2", "other"])
            if chance.random() < 0.6:
                parts["expect"] = chance.choice([1, 2, 3])
            if name == "m" and chance.random() < 0.6:
                parts["members"] = tuple("xyz"[: chance.randrange(1, 4)])
            parts["is_failed"] = chance.random() < 0.2
            records.append(event(self.next("event"), name, at_ms, chance.choice("kl"), **parts))
        self.feed(*records)

    def pass_time(self) -> None:
        self.now_ms += self.chance.choice([100, 1_000, 4_000])
        self.bench.tick(self.now_ms)

    def ask(self) -> None:
        verb, key = self.chance.choice(["wait.force", "wait.expire"]), self.chance.choice("kl")
        self.feed(request(self.next("request"), verb, key))

    def crash(self) -> None:
        self.bench.open()

    def feed(self, *records: StoredRecord) -> None:
        self.bench.feed(*records, now_ms=self.now_ms)

    def next(self, what: str) -> int:
        self.offsets[what] += 1
        return self.offsets[what] - 1

    def end(self) -> None:
        """Every deadline passes; judge."""
        for _ in range(4):
            self.now_ms += 100_000
            self.bench.tick(self.now_ms)
        fates = self.bench.fates()
        assert sorted(fates) == list(range(self.offsets["event"])), "each has been read"
        assert set(fates.values()) <= _ENDS, f"each has an end: {fates}"
        rows = self.bench.rows.rows
        left = [row for row in rows if row[:1] not in (FLOW, WAIT) and row[:1] in b"et"]
        assert [] == left, "no event and no timer outlives its wait"
        flow = decode_flow(rows[FLOW + b"f"]) if FLOW + b"f" in rows else FlowRow()
        assert (0, 0) == (flow.open, flow.held)


@pytest.mark.parametrize("before", KINDS)
def test_what_waits_under_one_kind_goes_on_under_any_other(before: str) -> None:
    for after in KINDS:
        for seed in range(6):
            life = Life((before, after, seed))
            life.declare(before)
            life.live(8)
            life.declare(after)
            life.live(10)
            life.end()


def test_a_flow_may_be_declared_otherwise_again_and_again() -> None:
    for seed in range(150):
        life = Life(seed)
        for _ in range(5):
            life.declare(life.chance.choice(list(KINDS)))
            life.live(5)
        life.end()


def test_what_is_told_of_waits_adds_up_to_their_state_whatever_they_were_declared() -> None:
    for seed in range(60):
        life = Life(seed)
        for _ in range(4):
            life.declare(life.chance.choice(list(KINDS)), history=HISTORY)
            for _ in range(6):
                life.live(1)
                assert kept(life.bench) == folded(told(life.bench)), f"seed {seed}"
        life.end()


def test_every_deadline_of_one_kind_may_pass_under_any_other() -> None:
    for before, after in permutations(KINDS, 2):
        life = Life((before, after))
        life.declare(before)
        life.come()
        life.come()
        life.declare(after)
        life.end()


@pytest.mark.parametrize(
    ("was", "now"), [(Counted(3), Counted(2)), (Named(3), Named(2)), (Named(3), Named(1))]
)
def test_what_fewer_events_complete_is_complete_and_does_not_time_out(
    was: Counted | Named, now: Counted | Named
) -> None:
    bench = Bench([correlation(was, "abc", within_ms=_WITHIN_MS)])
    bench.feed(event(0, "a", NOW_MS), event(1, "b", NOW_MS + 1))
    bench.correlations = [correlation(now, "abc", within_ms=_WITHIN_MS)]
    bench.__post_init__()
    bench.tick(NOW_MS + _WITHIN_MS)
    assert ["complete"] == [each["reason"] for each in bench.results()]


@pytest.mark.parametrize(
    "kind",
    [Named(2), Absent("a", "b"), Counted(2), Members(("x", "y"))],
    ids=["all", "absence", "number", "list"],
)
def test_a_deadline_that_is_another_one_now_holds_for_what_waits_already(kind: Kind) -> None:
    for before_ms, now_ms in ((10_000, 50_000), (50_000, 10_000)):
        bench = Bench([correlation(kind, "ab", within_ms=before_ms)])
        bench.feed(event(0, "a", NOW_MS, member="x"))
        bench.correlations = [correlation(kind, "ab", within_ms=now_ms)]
        bench.__post_init__()
        bench.feed(event(1, "b", NOW_MS + 20_000, member="y"), now_ms=NOW_MS + 20_000)
        bench.tick(NOW_MS + 20_000)
        is_in_time = now_ms > 20_000
        if isinstance(kind, Absent):
            wanted = [] if is_in_time else ["absent"]
        else:
            wanted = ["complete"] if is_in_time else ["timeout"]
        assert wanted == [each["reason"] for each in bench.results()]


def test_a_deadline_that_was_put_off_is_not_obeyed_before() -> None:
    bench = Bench([correlation(Named(2), "ab", within_ms=10_000)])
    bench.feed(event(0, "a", NOW_MS))
    bench.correlations = [correlation(Named(2), "ab", within_ms=50_000)]
    bench.__post_init__()
    bench.tick(NOW_MS + 49_999)
    assert [] == bench.results()
    bench.tick(NOW_MS + 50_000)
    assert ["timeout"] == [each["reason"] for each in bench.results()]


def test_windows_that_are_shorter_now_fire_when_they_are_over() -> None:
    start_ms = NOW_MS - NOW_MS % 100_000
    bench = Bench([correlation(Windowed(100_000, 100_000), ["sale"])])
    bench.feed(event(0, "sale", start_ms + 1), now_ms=start_ms + 1)
    bench.correlations = [correlation(Windowed(10_000, 10_000), ["sale"])]
    bench.__post_init__()
    bench.feed(event(1, "sale", start_ms + 2), now_ms=start_ms + 2)
    bench.tick(start_ms + 10_000)
    assert [2] == [each["count"] for each in bench.results()]


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        (Batched(3, 4_096, 90_000), [("count", 3), ("count", 3)]),
        (Batched(10, 150, 90_000), [("bytes", 1)] * 6),
        (Batched(10, 4_096, 5), [("time", 5), ("time", 1)]),
    ],
    ids=["count", "bytes", "time"],
)
def test_no_list_is_larger_than_it_may_be_now(now: Batched, wanted: list[tuple[str, int]]) -> None:
    bench = Bench([_batch(Batched(10, 4_096, 90_000))])
    bench.feed(*(event(n, "event", NOW_MS + n) for n in range(5)), now_ms=NOW_MS + 5)
    bench.correlations = [_batch(now)]
    bench.__post_init__()
    bench.feed(event(5, "event", NOW_MS + 30_000), now_ms=NOW_MS + 30_000)
    bench.tick(NOW_MS + 60_000)
    assert wanted == [(each["reason"], each["count"]) for each in bench.results()]


def _batch(kind: Batched) -> Correlation:
    target = Target(RESULTS, 1, RESULTS, is_command=True)
    return correlation(kind, ["event"], target=target, fire=Fire.EACH, late=OnLate.NEW_RUN)
