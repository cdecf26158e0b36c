"""The judge of outcomes: a clean world, and each flaw brought into it."""

import pytest

from edo_stream.core.accounts import Fate
from edo_stream.observe.outcome import (
    Flaw,
    GivenUp,
    Input,
    Outcome,
    Output,
    Position,
    judge,
)

KEY = b"k"


def at(offset: int) -> Position:
    return Position("in", 0, offset)


def given(offset: int, sequence: int | None) -> Input:
    return Input(at(offset), KEY, None if sequence is None else f"e{sequence}", sequence)


def result(offset: int, of: int, sequence: int) -> Output:
    return Output(Position("out", 0, offset), at(of), KEY, f"e{sequence}", sequence)


#: 1, 3 before 2, 2 again, a record that is no event, 4 never sent, 5.
INPUTS = [given(0, 1), given(1, 3), given(2, 2), given(3, 2), given(4, None), given(5, 5)]
OUTPUTS = (result(0, 0, 1), result(1, 2, 2), result(2, 1, 3), result(3, 5, 5))
DEAD_LETTERS = (at(4),)
GAPS = (GivenUp("in", KEY, 4, 4),)
FATES = {
    at(0): Fate.EMITTED,
    at(1): Fate.EMITTED,
    at(2): Fate.EMITTED,
    at(3): Fate.DUPLICATE,
    at(4): Fate.DEAD_LETTERED,
    at(5): Fate.EMITTED,
}


def test_a_clean_outcome_has_no_flaw() -> None:
    assert judge(INPUTS, Outcome(OUTPUTS, DEAD_LETTERS, GAPS, FATES)).is_clean


def test_a_clean_outcome_needs_no_accounts() -> None:
    assert judge(INPUTS, Outcome(OUTPUTS, DEAD_LETTERS, GAPS)).is_clean


@pytest.mark.parametrize(
    ("flaw", "outcome"),
    [
        (Flaw.LOST, Outcome(OUTPUTS[:-1], DEAD_LETTERS)),
        (Flaw.LOST, Outcome(OUTPUTS, (), GAPS)),
        (Flaw.DUPLICATED, Outcome((*OUTPUTS, result(4, 5, 5)), DEAD_LETTERS, GAPS)),
        (Flaw.DUPLICATED, Outcome((*OUTPUTS, result(4, 3, 2)), DEAD_LETTERS, GAPS)),
        (Flaw.DUPLICATED, Outcome(OUTPUTS, DEAD_LETTERS * 2, GAPS)),
        (Flaw.DUPLICATED, Outcome(OUTPUTS, (*DEAD_LETTERS, at(5)), GAPS)),
        (
            Flaw.OUT_OF_ORDER,
            Outcome((OUTPUTS[0], OUTPUTS[2], OUTPUTS[1], OUTPUTS[3]), DEAD_LETTERS, GAPS),
        ),
        (Flaw.NOT_IN_INPUT, Outcome((*OUTPUTS, result(4, 9, 6)), DEAD_LETTERS, GAPS)),
        (Flaw.NOT_IN_INPUT, Outcome((*OUTPUTS[:-1], result(3, 5, 6)), DEAD_LETTERS, GAPS)),
        (Flaw.NOT_IN_INPUT, Outcome(OUTPUTS, (*DEAD_LETTERS, at(9)), GAPS)),
        (Flaw.UNDECLARED_GAP, Outcome(OUTPUTS, DEAD_LETTERS)),
        (Flaw.TORN, Outcome(OUTPUTS[:-1], DEAD_LETTERS, GAPS, FATES)),
        (Flaw.TORN, Outcome(OUTPUTS, (), GAPS, FATES)),
        (Flaw.TORN, Outcome(OUTPUTS, DEAD_LETTERS, GAPS, {**FATES, at(5): Fate.HELD})),
        (Flaw.TORN, Outcome(OUTPUTS, DEAD_LETTERS, GAPS, {**FATES, at(6): Fate.EMITTED})),
    ],
)
def test_a_flaw_is_found_out(flaw: Flaw, outcome: Outcome) -> None:
    assert flaw in judge(INPUTS, outcome).counts


@pytest.mark.parametrize("fate", [Fate.HELD, Fate.LATE, Fate.STALE, Fate.IGNORED])
def test_an_event_that_is_held_or_dropped_by_a_policy_is_not_lost(fate: Fate) -> None:
    outcome = Outcome(OUTPUTS[:-1], DEAD_LETTERS, fates={**FATES, at(5): fate})
    assert judge(INPUTS, outcome).is_clean


def test_a_dead_letter_fills_the_place_of_its_number() -> None:
    inputs = [given(0, 1), given(1, 2), given(2, 3)]
    outcome = Outcome((result(0, 0, 1), result(1, 2, 3)), (at(1),))
    assert judge(inputs, outcome).is_clean


def test_records_without_an_id_are_not_taken_for_copies_of_each_other() -> None:
    inputs = [given(0, None), given(1, None)]
    assert judge(inputs, Outcome((), (at(0),))).counts == {Flaw.LOST: 1}
