"""Run lengths of fates."""

from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.accounts import Fate, Run, runs_of

FATES = st.dictionaries(st.integers(0, 50), st.sampled_from([Fate.EMITTED, Fate.HELD])).map(
    lambda fates: dict(sorted(fates.items()))
)


def test_no_fates_have_no_runs() -> None:
    assert runs_of([], []) == ()


def test_neighbours_of_one_fate_are_one_run() -> None:
    assert runs_of([3, 4, 5], [Fate.EMITTED] * 3) == (Run(3, 3, "e"),)


def test_a_missing_offset_ends_a_run() -> None:
    assert runs_of([3, 5], [Fate.EMITTED] * 2) == (Run(3, 1, "e"), Run(5, 1, "e"))


@given(FATES)
def test_runs_say_what_the_fates_say(fates: dict[int, Fate]) -> None:
    runs = runs_of(list(fates), list(fates.values()))
    spread = {o: run.fate for run in runs for o in range(run.offset, run.offset + run.length)}
    assert {offset: fate.value for offset, fate in fates.items()} == spread
