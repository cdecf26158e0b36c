"""Many patterns at once: one event is held only against those that may want it.

Theory of operation. Every rule is filed under one of its fields: by a value that the field must
have, or by what its values must have in common (how they begin or end, a range, a network:
:mod:`.places`), or at least by its path. An event's leaves lead to the rules that are filed under
them; only these are looked at in full. So a look costs what the event has leaves and what nearly
matches, not what there are patterns. A rule that only says what a value must not be, or that it is
there, is looked at whenever its path is there; one that asks for nothing but absences, always.
Parts of an event that no pattern asks for are not walked through.
"""

from collections import Counter
from collections.abc import Generator, Hashable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from edo_stream.core.patterns.leaves import Leaf, Leaves, leaves_of
from edo_stream.core.patterns.parse import Field, Pattern, Rule
from edo_stream.core.patterns.places import Places

T = TypeVar("T", bound=Hashable)
Way = tuple[tuple[int, int], ...]
"""Seats of a leaf, from the outermost array in."""


class PatternIndex(Generic[T]):
    """Patterns with what they are for, such as a flow; made once, asked for each event."""

    def __init__(self, patterns: Iterable[tuple[T, Pattern]]) -> None:
        self._by_value: dict[str, dict[Hashable, list[tuple[T, Rule]]]] = {}
        self._by_anchor: dict[str, Places[tuple[T, Rule]]] = {}
        self._by_path: dict[str, list[tuple[T, Rule]]] = {}
        self._always: list[tuple[T, Rule]] = []
        rules = [(target, rule) for target, pattern in patterns for rule in pattern.rules]
        # The rarest value of a rule leads to the fewest others.
        shared = Counter(
            (field.path, value)
            for _, rule in rules
            for field in rule
            if _is_exact(field)
            for value in field.values
        )
        for target, rule in rules:
            self._file(target, rule, shared)
        self._paths = frozenset(
            part for _, rule in rules for field in rule for part in _ways_to(field.path)
        )

    def asks_for(self, name: str) -> bool:
        """Whether a pattern has a field of this name at the top, or below it."""
        return name in self._paths

    def asks_only_for(self, name: str) -> bool:
        """Whether no pattern has a field but this one, at the top."""
        return self._paths <= {"", name}

    def _file(self, target: T, rule: Rule, shared: Counter[tuple[str, Hashable]]) -> None:
        entry = (target, rule)
        exact = [field for field in rule if _is_exact(field)]
        if exact:
            field = min(exact, key=lambda one: sum(shared[one.path, v] for v in one.values))
            for value in field.values:
                self._by_value.setdefault(field.path, {}).setdefault(value, []).append(entry)
            return
        anchored = next((field for field in rule if _is_anchored(field)), None)
        if anchored is not None:
            self._file_anchored(anchored, entry)
            return
        present = [field.path for field in rule if not field.may_be_missing]
        if present:
            path = min(present, key=lambda one: len(self._by_path.get(one, ())))
            self._by_path.setdefault(path, []).append(entry)
        else:
            self._always.append(entry)

    def _file_anchored(self, field: Field, entry: tuple[T, Rule]) -> None:
        for value in field.values:
            self._by_value.setdefault(field.path, {}).setdefault(value, []).append(entry)
        places = self._by_anchor.setdefault(field.path, Places())
        for test in field.tests:
            assert test.anchor is not None, "all of the field's tests have one"
            places.add(test.anchor, entry)

    def matches(self, event: Any) -> list[T]:
        """What the patterns that match are for, each once, in the order of their filing."""
        leaves = leaves_of(event, self._paths)
        found: dict[T, None] = {}
        # Many leaves may lead to one rule; it is told apart by where it is, which costs least.
        refused: set[tuple[T, int]] = set()
        for target, rule in self._candidates(leaves):
            if target in found or (target, id(rule)) in refused:
                continue
            if is_match(rule, leaves):
                found[target] = None
            else:
                refused.add((target, id(rule)))
        return list(found)

    def _candidates(self, leaves: Leaves) -> Iterator[tuple[T, Rule]]:
        yield from self._always
        for path, values in leaves.items():
            yield from self._by_path.get(path, ())
            by_value = self._by_value.get(path)
            if by_value is not None:
                for leaf in values:
                    yield from by_value.get(leaf.compared, ())
            places = self._by_anchor.get(path)
            if places is not None:
                for leaf in values:
                    yield from places.of(leaf)


def _ways_to(path: str) -> Iterator[str]:
    """The paths that lead to a field: a name may have dots of its own, or be empty."""
    yield ""
    yield from (path[:at] for at, character in enumerate(path) if character == ".")
    yield path


def _is_exact(field: Field) -> bool:
    """Whether nothing but a few values will do."""
    return not (field.tests or field.may_be_there or field.may_be_missing)


def _is_anchored(field: Field) -> bool:
    """Whether all that will do has something in common that it can be found by."""
    is_free = field.may_be_there or field.may_be_missing
    return not is_free and all(test.anchor is not None for test in field.tests)


def is_match(rule: Rule, leaves: Leaves) -> bool:
    """Whether an event's leaves meet a rule, those of one array by the same element."""
    met: list[list[Way]] = []
    for field in rule:
        found = leaves.get(field.path)
        if found is None:
            if not field.may_be_missing:
                return False
            continue
        seats = [leaf.seats for leaf in found if passes(field, leaf)]
        if not seats:
            return False
        if all(seats):
            # Without a seat it agrees with everything.
            met.append([tuple(one.items()) for one in seats])
    return len(met) < 2 or _agree(met)


def passes(field: Field, leaf: Leaf) -> bool:
    """Whether a leaf is what a field must be."""
    return (
        field.may_be_there
        or leaf.compared in field.values
        or any(test.test(leaf.value) for test in field.tests)
    )


def _agree(met: list[list[Way]]) -> bool:
    """Whether each field has a leaf whose elements are those of the others' leaves.

    What is below one array does not ask what is below another, and each leaf is below one element:
    each is looked at once, however many of them there are.
    """
    # A stack of its own: arrays may be nested deeper than Python likes.
    stack = [_looks(met, 0)]
    answer = None
    while stack:
        try:
            inner = stack[-1].send(answer)
        except StopIteration as end:
            answer = end.value
            stack.pop()
        else:
            answer = None
            stack.append(_looks(*inner))
    return answer is True


def _looks(met: list[list[Way]], at: int) -> Generator[tuple[list[list[Way]], int], Any, bool]:
    """The same of ways that agree before a place; asks for what is further in."""
    by_array: dict[int, list[list[Way]]] = {}
    for number, ways in enumerate(met):
        arrays = {way[at][0] for way in ways}
        if len(arrays) > 1:
            # One path, several arrays: a name with dots stands beside names without.
            others = [*met[:number], *met[number + 1 :]]
            for array in arrays:
                if (yield [*others, [way for way in ways if way[at][0] == array]], at):
                    return True
            return False
        by_array.setdefault(arrays.pop(), []).append(ways)
    for some in by_array.values():
        for inner in _by_element(some, at):
            below = [ways for ways in inner if all(len(way) > at + 1 for way in ways)]
            if len(below) < 2 or (yield below, at + 1):
                break
        else:
            return False
    return True


def _by_element(met: list[list[Way]], at: int) -> Iterator[list[list[Way]]]:
    """Ways of fields that lead through one array, for each of its elements that has them all."""
    elements: dict[int, list[list[Way]]] = {}
    for number, ways in enumerate(met):
        here: dict[int, list[Way]] = {}
        for way in ways:
            here.setdefault(way[at][1], []).append(way)
        for element, some in here.items():
            if number == 0:
                elements[element] = [some]
            elif len(elements.get(element, ())) == number:
                elements[element].append(some)
    return (inner for inner in elements.values() if len(inner) == len(met))
