"""Every mutant can still be made; ``make mutants`` says whether tests see it."""

import re
from collections import Counter

import pytest

from tests.mutants.catalogue import INVARIANTS, MUTANTS
from tests.mutants.trial import IMPORTS, ROOT, DoesNotApplyError, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_text_that_a_mutant_replaces_is_there_once(mutant: Mutant) -> None:
    original = (ROOT / mutant.path).read_text()
    assert original != mutant.applied_to(original)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_tests_that_should_see_a_mutant_exist(mutant: Mutant) -> None:
    files = {test.partition("::")[0] for test in mutant.tests} - {IMPORTS}
    assert set() == {file for file in files if not (ROOT / file).is_file()}


def test_a_mutant_whose_text_has_changed_does_not_apply() -> None:
    mutant = Mutant(1, "gone", "a.py", (("x = 1", "x = 2"),), ())
    with pytest.raises(DoesNotApplyError, match="found it 0 times"):
        mutant.applied_to("x = 3\n")


def test_a_mutant_whose_text_is_ambiguous_does_not_apply() -> None:
    mutant = Mutant(1, "twice", "a.py", (("x = 1", "x = 2"),), ())
    with pytest.raises(DoesNotApplyError, match="found it 2 times"):
        mutant.applied_to("x = 1\nx = 1\n")


def test_the_invariants_are_those_of_the_architecture_with_two_mutants_each() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    invariants = re.findall(r"^(\d+)\. \*\*(.+?)\.?\*\*", text, flags=re.MULTILINE)
    assert [(str(number), title) for number, title in INVARIANTS.items()] == invariants
    counts = Counter(mutant.invariant for mutant in MUTANTS)
    assert [] == [number for number in INVARIANTS if counts[number] < 2]


def test_no_two_mutants_have_one_name() -> None:
    assert [] == [n for n, count in Counter(m.name for m in MUTANTS).items() if count > 1]
