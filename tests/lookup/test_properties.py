"""What becomes of events that look a row up, against the plainest account of it."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.lookup.spec import OnMissing
from tests.lookup.bench import EVENTS, NOW_MS, TABLE, Bench, lookup

KEYS = st.sampled_from("abc")
DOING = st.one_of(
    st.tuples(st.just("event"), KEYS, st.integers(0, 400)),
    st.tuples(st.just("row"), KEYS, st.one_of(st.none(), st.integers(0, 9))),
    st.tuples(st.just("time"), st.integers(0, 1_500)),
    st.tuples(st.just("crash")),
    st.tuples(st.sampled_from(("wait.force", "wait.expire")), KEYS),
)


@dataclass
class Model:
    """Rows, and what waits for them, as anybody would keep them."""

    wait_ms: int
    missing: OnMissing
    per_key_max: int
    waiting_max: int
    rows: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[str, list[tuple[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def held(self) -> int:
        return sum(map(len, self.waiting.values()))

    def event(self, number: int, key: str, at_ms: int) -> None:
        queue = self.waiting[key]
        if not queue and key in self.rows:
            self.ends[key].append(("command", (number, self.rows[key])))
        elif len(queue) >= self.per_key_max or self.held >= self.waiting_max:
            self.ends[key].append(("lookup-full", number))
        else:
            last_ms = queue[-1][1] if queue else 0
            queue.append((number, max(at_ms + self.wait_ms, last_ms)))

    def row(self, key: str, value: int | None) -> None:
        if value is None:
            self.rows.pop(key, None)
            return
        self.rows[key] = value
        self.ends[key] += [("command", (number, value)) for number, _ in self.waiting.pop(key, ())]

    def time(self, now_ms: int) -> None:
        for key, queue in self.waiting.items():
            while queue and queue[0][1] <= now_ms:
                self._miss(key, queue.pop(0)[0])

    def operate(self, op: str, key: str) -> None:
        for number, _ in self.waiting.pop(key, ()):
            if op == "wait.force":
                self.ends[key].append(("command", (number, None)))
            else:
                self._miss(key, number)

    def _miss(self, key: str, number: int) -> None:
        end = {
            OnMissing.NULL: ("command", (number, None)),
            OnMissing.DEAD_LETTER: ("no-row", number),
            OnMissing.FAILURE: ("unmatched", number),
        }
        self.ends[key].append(end[self.missing])


@given(
    doings=st.lists(DOING, max_size=40),
    together=st.integers(1, 4),
    wait_ms=st.sampled_from((0, 1_000)),
    missing=st.sampled_from(OnMissing),
    per_key_max=st.sampled_from((1, 2, 100)),
    waiting_max=st.sampled_from((2, 100)),
    is_global=st.booleans(),
)
def test_each_event_has_the_row_of_its_moment_or_what_the_flow_says(  # noqa: C901, PLR0912, PLR0915 - the whole history
    doings: list[tuple[Any, ...]],
    together: int,
    wait_ms: int,
    missing: OnMissing,
    per_key_max: int,
    waiting_max: int,
    is_global: bool,
) -> None:
    rules = {"wait_ms": wait_ms, "missing": missing, "per_key_max": per_key_max}
    bench = Bench(lookup(**rules, global_partitions=int(is_global)), waiting_max)
    model = Model(wait_ms, missing, per_key_max, waiting_max)
    now_ms, number, records, keys = NOW_MS, 0, [], {}

    def feed() -> None:
        # Once in vain: the transaction is aborted, and all of it comes again.
        while records or bench.pipeline.has_arrivals:
            bench.step(*records, now_ms=now_ms)
            bench.pipeline.discard()
            bench.feed(*records, now_ms=now_ms)
            records.clear()

    for doing in doings:
        match doing:
            case ("event", key, away_ms):
                records.append(bench.event(number, key, now_ms - away_ms))
                model.event(number, key, now_ms - away_ms)
                keys[number] = key
                number += 1
            case ("row", key, value) if is_global:
                feed()
                bench.arrive(bench.row(key, value, now_ms))
                model.row(key, value)
            case ("row", key, value):
                records.append(bench.row(key, value, now_ms))
                model.row(key, value)
            case ("time", more_ms):
                feed()
                now_ms += more_ms
                bench.tick(now_ms)
                model.time(now_ms)
            case ("crash",):
                if records:
                    feed()
                # What has come to a global table, and was not looked at, is seen again.
                bench.open()
            case (op, key):
                records.append(bench.request(op, key))
                model.operate(op, key)
        if len(records) >= together:
            feed()
    feed()

    found: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for end in bench.ends():
        what = end[1]
        found[keys[what[0] if isinstance(what, tuple) else what]].append(end)
    assert {key: ends for key, ends in model.ends.items() if ends} == found

    fate_of = {"command": "e", "no-row": "x", "lookup-full": "x", "unmatched": "f"}
    ended = {
        what[0] if isinstance(what, tuple) else what: fate_of[name]
        for ends in model.ends.values()
        for name, what in ends
    }
    assert {one: ended.get(one, "h") for one in range(number)} == bench.fates()
    assert set(bench.fates(TABLE).values()) <= (set() if is_global else {"a"})
    count, since_ms = bench.pipeline.held()[EVENTS]
    assert model.held == count
    assert (since_ms is None) == (count == 0)
    if not count:
        # Nothing is left of what has waited but the rows, the counters and the task's own row.
        assert {key[:1] for key in bench.rows.rows} <= {b"r", b"f", b"o"}
