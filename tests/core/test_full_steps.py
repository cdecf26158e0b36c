"""A step writes what one transaction takes; the rest of its batches is for the next one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.correlation.spec import Counted
from edo_stream.core.effects import Effects, Publish
from edo_stream.core.known_ids import IdsBudget
from edo_stream.core.lane import Source
from edo_stream.core.pieces import Split
from edo_stream.core.pipeline import Pipeline
from edo_stream.core.record import Record
from edo_stream.core.routing import Route, Routes
from edo_stream.core.task import WRITTEN_BYTES_MAX, WRITTEN_MAX
from edo_stream.core.trigger import FlowTrigger
from tests.core import bench as plain
from tests.core.bench import NOW_MS, contract, decode, record
from tests.core.limits import Limits
from tests.correlation import bench as waits
from tests.lookup import bench as lookups


def in_steps(
    step: Callable[[Sequence[Record]], Effects],
    position: Callable[[], int],
    records: Sequence[Record],
) -> Iterator[Effects]:
    """As many steps as a batch takes; what one leaves the next one is given."""
    while records:
        yield step(records)
        left = [one for one in records if one.offset >= position()]
        assert len(left) < len(records), "a step reads something"
        records = left


class Splitting(plain.Bench):
    """A task whose topic has two flows: one splits, one takes events as they are."""

    def open(self) -> None:
        super().open()
        (one,) = self.contracts
        split = Split("edo.outcomes.s", at=("items",), elements_max=10_000)
        routes = Routes(
            [
                Route(FlowTrigger("p", "edo.commands.p", "edo.dead-letters.p", 8)),
                Route(FlowTrigger("s", "edo.commands.s", "edo.dead-letters.s", 8, split=split)),
            ]
        )
        sources = {one.topic: Source(one, decode, routes)}
        self.pipeline = Pipeline(
            plain.IDENTITY, sources, self.state, self.ids, plain.INTERNAL, IdsBudget()
        )

    def run(self, records: Sequence[Record], crashes: Sequence[int] = ()) -> list[int]:
        """Feed a batch; how much each step has written."""
        found: list[int] = []

        def step(left: Sequence[Record]) -> Effects:
            if len(found) in crashes:
                self.step(*left)
                self.open()
            return self.feed(*left)

        found.extend(
            len(written(effects.publish))
            for effects in in_steps(step, lambda: self.pipeline.positions()[plain.TOPIC], records)
        )
        return found


def written(publish: Sequence[Publish]) -> list[Publish]:
    return [one for one in publish if one.topic != plain.INTERNAL.accounts]


def events(counts: Sequence[int], more: str = "") -> list[Record]:
    return [
        record(offset, b"k%d" % (offset % 3), items=list(range(count)), more=more)
        for offset, count in enumerate(counts)
    ]


def test_split_events_go_out_in_steps_of_what_a_transaction_takes() -> None:
    bench = Splitting([contract()])
    steps = bench.run(events([4_000] * 8))
    # Each event is a result, a command, and a command for each element.
    assert [3 * 4_002, 3 * 4_002, 2 * 4_002] == steps
    assert set(range(8)) == {o for o, fate in bench.fates().items() if fate == "e"}


def test_large_events_go_out_in_steps_of_what_a_transaction_takes() -> None:
    bench = Splitting([contract()])
    # Results and commands have the event; and a command of one element has nearly nothing.
    each = len(events([1], "x" * 300_000)[0].value or b"")
    steps = bench.run(events([1] * 20, "x" * 300_000))
    of_one = -(-WRITTEN_BYTES_MAX // (2 * each))
    assert [3 * of_one] * (20 // of_one) == steps[: 20 // of_one]
    assert 20 * 3 == sum(steps)


@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    records_max=st.integers(1, 12),
    bytes_max=st.sampled_from([1, 300, 2_000, WRITTEN_BYTES_MAX]),
    crashes=st.sets(st.integers(0, 12)),
    again=st.integers(0, 5),
)
def test_however_little_a_step_takes_the_same_is_written_in_the_same_order(
    counts: list[int], records_max: int, bytes_max: int, crashes: set[int], again: int
) -> None:
    batch = events(counts)
    batch += [record(len(batch), bad="not so"), record(len(batch) + 1, raw=b'{"id": "id-0"}')]
    whole, small = Splitting([contract()]), Splitting([contract()])
    whole.run(batch)
    with Limits(records_max, bytes_max):
        steps = small.run(batch, sorted(crashes))
        small.feed(*batch[:again] or batch[:1])
    assert written(whole.published) == written(small.published)
    assert whole.fates() == small.fates()
    most = max(1, *counts) + 2
    assert all(count < records_max + most for count in steps)


def test_waits_that_complete_go_out_in_steps_of_what_a_transaction_takes() -> None:
    kind = Counted(1)
    bench = waits.Bench([waits.correlation(kind, ["a"])])
    batch = [
        waits.event(offset, "a", NOW_MS, f"k{offset}", data="x" * 250_000, member="m")
        for offset in range(40)
    ]
    sizes = [
        sum(len(one.value or b"") for one in effects.publish)
        for effects in in_steps(
            lambda left: bench.feed(*left),
            lambda: bench.pipeline.positions()[waits.JOINS],
            batch,
        )
    ]
    assert 3 == len(sizes)
    assert all(size < WRITTEN_BYTES_MAX + 300_000 for size in sizes)
    assert 40 == len(bench.results())
    assert dict.fromkeys(range(40), "e") == bench.fates()


def waiting(count: int, **rest: Any) -> lookups.Bench:
    """Events of one key that wait for its row."""
    bench = lookups.Bench(lookups.lookup(per_key_max=count, **rest), waiting_max=count)
    for first in range(0, count, 500):
        numbers = range(first, min(count, first + 500))
        bench.feed(*(bench.event(number, "k", lookups.NOW_MS) for number in numbers))
    return bench


def rests(bench: lookups.Bench) -> list[int]:
    """Let go what is to go at once; how much each step has written."""
    found = []
    while bench.pipeline.next_due_ms() == 0:
        found.append(len(bench.commit(bench.step()).publish))
    return found


def test_a_row_lets_a_long_queue_go_in_steps_in_their_order_and_a_crash_repeats_none() -> None:
    bench = waiting(25_000)
    # What comes behind the row is not read before all have gone on with it.
    row, other = bench.row("k", 1), bench.row("k", 2)
    late = bench.event(25_000, "k", lookups.NOW_MS)
    first = bench.feed(row)
    assert WRITTEN_MAX == len(written(first.publish))
    bench.step(other, late)
    bench.open()
    effects = bench.feed(other, late)
    assert WRITTEN_MAX == len([one for one in effects.publish if one.topic == lookups.COMMANDS])
    assert 1 == bench.pipeline.positions()[lookups.TABLE]
    bench.feed(other, late)
    assert 2 == bench.pipeline.positions()[lookups.TABLE]
    assert [("command", (n, 1)) for n in range(25_000)] + [("command", (25_000, 2))] == bench.ends()
    assert dict.fromkeys(range(25_001), "e") == bench.fates()


@pytest.mark.parametrize(("op", "end"), [("force", "command"), ("expire", "no-row")])
def test_an_operator_lets_a_long_queue_go_in_steps(op: str, end: str) -> None:
    bench = waiting(12_000, missing=lookups.OnMissing.DEAD_LETTER)
    bench.feed(bench.request(f"wait.{op}", "k"))
    bench.open()
    rests(bench)
    wanted = [(n, None) if op == "force" else n for n in range(12_000)]
    assert [(end, one) for one in wanted] == bench.ends()


def test_deadlines_let_a_long_queue_go_in_steps() -> None:
    bench = waiting(25_000)
    steps = 0
    while (due_ms := bench.pipeline.next_due_ms()) is not None:
        effects = bench.commit(bench.step(now_ms=due_ms, caught_up_ms=due_ms))
        assert len(effects.publish) <= WRITTEN_MAX + 1
        steps += 1
    assert 3 == steps
    assert [("command", (n, None)) for n in range(25_000)] == bench.ends()


def test_large_events_that_wait_go_on_in_steps() -> None:
    bench = lookups.Bench()
    numbers = range(30)
    for number in numbers:
        one = bench.event(number, "k", lookups.NOW_MS)
        bench.feed(one)
    with Limits(size_bytes=1):
        bench.feed(bench.row("k", 1))
        # A command each, and an account.
        assert [2] * 29 == rests(bench)
    assert [("command", (n, 1)) for n in numbers] == bench.ends()


def test_an_event_whose_time_is_over_goes_on_with_the_row_that_is_there() -> None:
    bench = waiting(3, missing=lookups.OnMissing.DEAD_LETTER)
    # The flow is declared no more, and again when the row has come.
    declared, bench.spec = bench.spec, replace(bench.spec, enrichments={})
    bench.open()
    bench.feed(bench.row("k", 7))
    bench.spec = declared
    bench.open()
    bench.tick(lookups.NOW_MS + lookups.WAIT_MS)
    assert [("command", (n, 7)) for n in range(3)] == bench.ends()
