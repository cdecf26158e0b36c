"""Any consistent world passes the audit; any one thing changed in it does not."""

from dataclasses import replace

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from edo_stream.core.accounts import Fate, Run
from edo_stream.observe.audit.evidence import Bounds
from edo_stream.observe.audit.report import Problem
from tests.audit.world import TOPIC, World, audited, problems, world_of

SILENT = [Fate.DUPLICATE, Fate.LATE, Fate.STALE, Fate.IGNORED, Fate.APPLIED]


@st.composite
def worlds(draw: st.DrawFn, having: Fate | str | None = "anything") -> World:
    """Any consistent world; ``having`` is a fate that a record of it has, ``None`` a marker."""
    fates = draw(st.lists(st.sampled_from([*Fate, None]), min_size=1, max_size=40))
    if not isinstance(having, str):
        fates.insert(draw(st.integers(0, len(fates))), having)
    first = draw(st.integers(0, 5))
    batch_size = draw(st.integers(1, 10))
    last_batch = (len(fates) - 1) // batch_size
    settlements = {}
    for index, fate in enumerate(fates):
        own = index // batch_size
        if fate is Fate.HELD and own < last_batch and draw(st.booleans()):
            at = draw(st.integers(own + 1, last_batch))
            settlements[first + index] = at, draw(st.sampled_from([Fate.EMITTED, *SILENT]))
    return world_of(fates, settlements, batch_size, first)


@given(worlds())
def test_a_consistent_world_passes(world: World) -> None:
    report = audited(world)
    assert (report.is_clean, report.tallies[TOPIC].records) == (True, len(world.records))


@given(worlds(), st.data())
def test_a_result_too_many_is_found(world: World, data: st.DataObject) -> None:
    offset = data.draw(st.integers(world.bounds.first, world.bounds.end + 3))
    assert problems(replace(world, results=[*world.results, offset])) != {}


@given(worlds(having=Fate.EMITTED), st.data())
def test_a_result_too_few_is_found(world: World, data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(world.results))
    left = [offset for offset in world.results if offset != gone]
    assert problems(replace(world, results=left)) == {Problem.MISSING_RESULT: 1}


@given(worlds(), st.data())
def test_a_dead_letter_too_many_is_found(world: World, data: st.DataObject) -> None:
    offset = data.draw(st.integers(world.bounds.first, world.bounds.end + 3))
    assert problems(replace(world, dead_letters=[*world.dead_letters, offset])) != {}


@given(worlds(having=Fate.DEAD_LETTERED), st.data())
def test_a_dead_letter_too_few_is_found(world: World, data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(world.dead_letters))
    left = [offset for offset in world.dead_letters if offset != gone]
    assert problems(replace(world, dead_letters=left)) == {Problem.MISSING_DEAD_LETTER: 1}


@given(worlds(having=Fate.DUPLICATE), st.data())
def test_a_record_that_vanished_is_found(world: World, data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(world.records))
    left = [offset for offset in world.records if offset != gone]
    assert Problem.NO_RECORD in problems(replace(world, records=left))


@given(worlds(having=None), st.data())
def test_a_record_where_a_marker_should_be_is_found(world: World, data: st.DataObject) -> None:
    markers = set(range(world.bounds.first, world.bounds.end)) - set(world.records)
    assume(markers)
    offset = data.draw(st.sampled_from(sorted(markers)))
    assert problems(replace(world, records=[*world.records, offset])) == {Problem.UNACCOUNTED: 1}


@given(worlds(having=Fate.DUPLICATE), st.data())
def test_a_lost_account_is_found(world: World, data: st.DataObject) -> None:
    numbers = [number for number, one in enumerate(world.accounts) if one.runs]
    assume(numbers)
    gone = data.draw(st.sampled_from(numbers))
    left = [one for number, one in enumerate(world.accounts) if number != gone]
    assert Problem.UNACCOUNTED in problems(replace(world, accounts=left))


@given(worlds(having=Fate.DUPLICATE), st.data())
def test_a_repeated_account_is_found(world: World, data: st.DataObject) -> None:
    again = data.draw(st.sampled_from(world.accounts))
    assume(again.runs or again.settled or again.start is not None)
    assert problems(replace(world, accounts=[*world.accounts, again])) != {}


@given(worlds(having=Fate.DUPLICATE), st.data())
def test_a_wrong_fate_is_found(world: World, data: st.DataObject) -> None:
    numbers = [number for number, one in enumerate(world.accounts) if one.runs]
    assume(numbers)
    number = data.draw(st.sampled_from(numbers))
    runs = list(world.accounts[number].runs)
    index = data.draw(st.integers(0, len(runs) - 1))
    # Between fates that leave nothing behind nobody can tell.
    wrong = Fate.DUPLICATE if runs[index].fate in "ex" else Fate.EMITTED
    runs[index] = Run(runs[index].offset, runs[index].length, wrong.value)
    account = msgspec.structs.replace(world.accounts[number], runs=tuple(runs))
    accounts = [*world.accounts[:number], account, *world.accounts[number + 1 :]]
    assert problems(replace(world, accounts=accounts)) != {}


@given(worlds(), st.integers(1, 3))
def test_an_offset_committed_too_far_is_found(world: World, more: int) -> None:
    end = world.bounds.end + more
    further = Bounds(world.bounds.first, end, end)
    records = [*world.records, end - 1]
    assert problems(replace(world, bounds=further, records=records)) == {Problem.UNACCOUNTED: 1}
