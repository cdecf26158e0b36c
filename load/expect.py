"""What must come out of a burst, computed from its profile and from nothing else.

It holds for a pipeline that drops duplicates by source and id, numbers contiguously, waits for
a missing number longer than the profile delays one, and then skips it (``on_timeout: skip``).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from load.plan import Kind, event_id, plan
from load.profile import Profile


@dataclass(frozen=True, slots=True)
class Expectation:
    """Per key the numbers that come out, ascending, and those that were never sent."""

    records: int
    duplicates: int
    undecodable: int
    emitted: dict[bytes, list[int]]
    never_filled: dict[bytes, list[int]]
    """Numbers missing for good; a later number of the key was sent."""

    @property
    def events(self) -> int:
        return sum(map(len, self.emitted.values()))

    def ids(self, key: bytes) -> Iterator[str]:
        """Ids of a key's events in the order in which they come out."""
        return (event_id(key, number) for number in self.emitted.get(key, ()))


def expect(profile: Profile) -> Expectation:
    """Plan the burst and keep what is left of it when all is done."""
    kinds: Counter[Kind] = Counter()
    emitted: dict[bytes, list[int]] = {}
    spoilt: dict[bytes, set[int]] = {}
    for planned in plan(profile):
        kinds[planned.kind] += 1
        if planned.kind is Kind.DUPLICATE or planned.number is None:
            continue
        if planned.kind is Kind.UNDECODABLE:
            spoilt.setdefault(planned.key, set()).add(planned.number)
        else:
            emitted.setdefault(planned.key, []).append(planned.number)
    for numbers in emitted.values():
        numbers.sort()
    missing = {key: _missing(numbers, spoilt.get(key, set())) for key, numbers in emitted.items()}
    return Expectation(
        records=kinds.total(),
        duplicates=kinds[Kind.DUPLICATE],
        undecodable=kinds[Kind.UNDECODABLE],
        emitted=emitted,
        never_filled={key: numbers for key, numbers in missing.items() if numbers},
    )


def _missing(numbers: list[int], spoilt: set[int]) -> list[int]:
    if len(numbers) + len(spoilt) == max(numbers[-1], *spoilt, 0):
        return []
    return sorted(set(range(1, numbers[-1])) - set(numbers) - spoilt)


@dataclass(slots=True)
class Comparison:
    """How what came out differs from what must; the lists keep the first ``EXAMPLES`` each."""

    emitted: int = 0
    missing: int = 0
    repeated: int = 0
    out_of_order: int = 0
    unexpected: int = 0
    dead_letters_missing: int = 0
    """Negative: there are more than expected."""
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_exact(self) -> bool:
        return not (
            self.missing
            or self.repeated
            or self.out_of_order
            or self.unexpected
            or self.dead_letters_missing
        )

    def note(self, what: str, which: str) -> None:
        """Keep an example, as long as there are few."""
        kept = self.examples.setdefault(what, [])
        if len(kept) < EXAMPLES:
            kept.append(which)


EXAMPLES = 20


def compare(
    expectation: Expectation, emitted: Iterable[tuple[bytes, str]], dead_letters: int
) -> Comparison:
    """Judge the ids that came out, given as ``(key, id)`` in the order of each key."""
    found = Comparison()
    seen: dict[bytes, set[int]] = {key: set() for key in expectation.emitted}
    wanted = {key: set(numbers) for key, numbers in expectation.emitted.items()}
    last: dict[bytes, int] = {}
    for key, id_ in emitted:
        found.emitted += 1
        number = _number_of(key, id_)
        if number is None or number not in wanted.get(key, ()):
            found.unexpected += 1
            found.note("unexpected", id_)
            continue
        if number in seen[key]:
            found.repeated += 1
            found.note("repeated", id_)
            continue
        if number < last.get(key, 0):
            found.out_of_order += 1
            found.note("out of order", id_)
        seen[key].add(number)
        last[key] = number
    for key, numbers in wanted.items():
        for number in sorted(numbers - seen[key]):
            found.missing += 1
            found.note("missing", event_id(key, number))
    found.dead_letters_missing = expectation.undecodable - dead_letters
    return found


def _number_of(key: bytes, id_: str) -> int | None:
    prefix, _, number = id_.rpartition("-")
    return int(number) if prefix.encode() == key and number.isdecimal() else None
