"""The audit of what waits: over random histories of a task, and over those that were spoilt."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import msgspec
import pytest

from edo_stream.core.correlation.spec import (
    Absent,
    Correlation,
    Counted,
    Fire,
    Members,
    Named,
    OnLate,
    OnTimeout,
    Ordered,
    Windowed,
)
from edo_stream.core.effects import Publish
from edo_stream.core.record import Record
from edo_stream.observe.audit.application import Audit, Internal
from edo_stream.observe.audit.evidence import Bounds, Closing
from edo_stream.observe.audit.report import Findings, Place, Problem, Report
from edo_stream.observe.audit.waits import Part, part_of
from tests.correlation.bench import JOINS, NOW_MS, RESULTS, Bench, correlation, event, request

START_MS = NOW_MS - 1_000_000
KINDS = (
    Named(2),
    Counted(3),
    Members(("x", "y")),
    Absent("a", "b"),
    Ordered(),
    Windowed(20, 20),
    Windowed(30, 10),
    Windowed(gap_ms=12),
)
LETTERS = ("edo.dead-letters.f", "edo.dead-letters.g")


def played(seed: int) -> Bench:
    """A task after some history; what is open at its end is open."""
    random = Random(seed)
    wanted = correlation(
        random.choice(KINDS),
        "ab",
        within_ms=40,
        on_timeout=random.choice(list(OnTimeout)),
        late=random.choice(list(OnLate)),
        fire=random.choice(list(Fire)),
    )
    if isinstance(wanted.kind, Windowed) and wanted.kind.size_ms > wanted.kind.every_ms:
        wanted = replace(wanted, late=OnLate.DROP)
    bench, offset, now_ms, operations = Bench([wanted]), 0, START_MS, 0
    for _ in range(12):
        now_ms += random.choice((0, 5, 30))
        records: list[Record] = []
        for _ in range(random.randrange(5)):
            at_ms, key = now_ms - random.choice((0, 1, 20)), random.choice("kq")
            name = random.choice("aabbz")
            member = random.choice("xyw") if isinstance(wanted.kind, Members) else None
            one = event(offset, name, at_ms, key, member=member)
            if random.random() < 0.05:
                one = msgspec.structs.replace(one, value=b"garbage")
            records.append(one)
            offset += 1
        if random.random() < 0.1:
            records.append(request(operations, random.choice(("wait.force", "wait.expire"))))
            operations += 1
        bench.feed(*records, now_ms=now_ms)
        if random.random() < 0.7:
            bench.tick(now_ms)
    return bench


def audited(bench: Bench, published: Sequence[Publish] | None = None) -> Report:
    found = list(bench.published if published is None else published)
    (wanted,) = bench.correlations
    internal = Internal([JOINS], parts={"f": part_of(wanted)})
    audit = Audit("app", [JOINS], Findings(100), internal=internal)
    count = bench.pipeline.positions().get(JOINS, 0)
    audit.source(JOINS, 0, Bounds(0, count, count))
    for number, account in enumerate(bench.accounts):
        audit.account(msgspec.json.encode(account), Place("accounts", 0, number), is_firm=True)
    audit.records(JOINS, 0, range(count))
    for number, one in enumerate(found):
        at = Place(one.topic, 0, number)
        if one.topic in LETTERS:
            audit.command_letter(one.headers, at)
        elif one.topic == RESULTS:
            audit.firing(one.headers, at)
        elif one.topic == "edo.outcomes.f":
            audit.outcome(one.headers, at)
    return audit.conclude({(JOINS, 0): Closing(0, True)}, True)


@pytest.fixture(autouse=True)
def _begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every task says where its reading began."""
    opened = Bench.__post_init__

    def begin(self: Bench) -> None:
        opened(self)
        self.commit(self.pipeline.start(JOINS, 0, START_MS))

    monkeypatch.setattr(Bench, "__post_init__", begin)


@pytest.mark.parametrize("seed", range(150))
def test_whatever_happens_to_what_waits_it_adds_up(seed: int) -> None:
    bench = played(seed)
    report = audited(bench)
    assert {} == dict(report.counts), report.findings
    tally, fates = report.tallies[JOINS], list(bench.fates().values())
    assert (fates.count("h"), fates.count("e"), fates.count("f"), fates.count("x")) == (
        tally.held,
        tally.emitted,
        tally.failed,
        tally.dead_lettered,
    )
    assert len(fates) == tally.records


@pytest.mark.parametrize(("read", "counts"), [(("g",), {}), ((), {Problem.MISSING_RESULT: 2})])
def test_what_a_flow_that_is_gone_has_written_is_not_missed_and_that_of_others_is(
    read: Sequence[str], counts: dict[Problem, int]
) -> None:
    bench = Bench([correlation(Named(2), "ab", flow=flow) for flow in "fg"])
    joined = [event(offset, "aabb"[offset], START_MS, flow="fgfg"[offset]) for offset in range(4)]
    bench.feed(*joined)
    audit = Audit("app", [JOINS], Findings(9), internal=Internal([JOINS], parts={"g": Part.RESULT}))
    audit.source(JOINS, 0, Bounds(0, 4, 4))
    for number, account in enumerate(bench.accounts):
        audit.account(msgspec.json.encode(account), Place("accounts", 0, number), is_firm=True)
    audit.records(JOINS, 0, range(4))
    for one in joined:
        audit.joined(Place(JOINS, 0, one.offset), one.value)
    for number, fired in enumerate(bench.published):
        if dict(fired.headers).get("edo-flow", b"").decode() in read:
            audit.firing(fired.headers, Place(fired.topic, 0, number))
    report = audit.conclude({(JOINS, 0): Closing(0, True)}, True)
    assert (counts, {"f": 2}) == (dict(report.counts), report.not_declared)
    assert 4 == report.tallies[JOINS].emitted


Tamper = Callable[[list[Publish], Publish], list[Publish]]


def _lost(published: list[Publish], one: Publish) -> list[Publish]:
    return [each for each in published if each is not one]


def _twice(published: list[Publish], one: Publish) -> list[Publish]:
    return [*published, one]


@pytest.mark.parametrize(
    ("topic", "tamper", "problem"),
    [
        (RESULTS, _lost, Problem.MISSING_RESULT),
        (RESULTS, _twice, Problem.REPEATED_RESULT),
        ("edo.outcomes.f", _lost, Problem.MISSING_OUTCOME),
        ("edo.outcomes.f", _twice, Problem.REPEATED_OUTCOME),
        ("edo.dead-letters.f", _lost, Problem.MISSING_DEAD_LETTER),
        ("edo.dead-letters.f", _twice, Problem.REPEATED_DEAD_LETTER),
        ("edo.dead-letters.g", _lost, Problem.MISSING_DEAD_LETTER),
    ],
)
def test_what_is_lost_or_twice_is_found(topic: str, tamper: Tamper, problem: Problem) -> None:
    found = 0
    for seed in range(150):
        bench = played(seed)
        (wanted,) = bench.correlations
        if topic == RESULTS and part_of(wanted) > 1:
            continue  # An event of windows that overlap is in several results.
        of_topic = [one for one in bench.published if one.topic == topic]
        if of_topic:
            found += 1
            counts = audited(bench, tamper(bench.published, of_topic[0])).counts
            assert problem in counts
            assert 1 == len(counts)
    assert found > 3


def test_a_result_of_what_is_none_is_found() -> None:
    def wanted() -> Correlation:
        return correlation(Named(2), "ab", within_ms=40, on_timeout=OnTimeout.DROP)

    bench, other = Bench([wanted()]), Bench([wanted()])
    for one in (bench, other):
        one.feed(event(0, "a", START_MS))
    bench.tick(NOW_MS)
    other.feed(event(1, "b", START_MS))
    assert {} == dict(audited(bench).counts)
    forged = [*bench.published, *(one for one in other.published if one.topic == RESULTS)]
    assert {Problem.UNEXPECTED_RESULT, Problem.UNEXPLAINED} == set(audited(bench, forged).counts)
    broken = [
        msgspec.structs.replace(one, headers=[*one.headers, ("edo-of", text)])
        for one in other.published
        if one.topic == RESULTS
        for text in (b"x/0/one", b"x/0", b"edo.joins.g/0/0-99999999999")
    ]
    assert {Problem.UNEXPLAINED: 3} == dict(audited(bench, [*bench.published, *broken]).counts)
