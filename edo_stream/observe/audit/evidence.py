"""The evidence about one source partition, and what follows from it."""

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableSequence
from typing import Final, NamedTuple

from edo_stream.core.accounts import SKIPPED, Account, Fate, Run
from edo_stream.core.contract import DAY_MS
from edo_stream.observe.audit.report import Finding, Findings, Problem, Tally


class Bounds(NamedTuple):
    """Where a source partition stands."""

    first: int
    """First offset that the log still has."""
    committed: int | None
    """Next offset to read by the group; records from here on are pending."""
    end: int
    """Next offset to be written; read after all results and dead letters were."""


class Closing(NamedTuple):
    """Where a source partition stands after everything was read."""

    first: int
    """First offset that the log still has."""
    has_committed: bool
    """Whether the group has an offset by now."""


class Evidence(NamedTuple):
    """What is known of an offset."""

    record: int
    """1, or 2 where what its fate has led to is not read."""
    account: int
    settled: int
    results: int
    """Their number; of a command, its traces: see :meth:`SourceAudit.traced`."""
    dead_letters: int

    @property
    def fate(self) -> Fate | None:
        """Final fate by the accounts."""
        return _FATES.get((self.settled & ~_TENTATIVE) or self.account)

    @property
    def is_firm(self) -> bool:
        """Whether all that its fate has led to was read."""
        return not self.settled & _TENTATIVE and self.record != _UNFOLLOWED


Judge = Callable[[Evidence], Iterator[Problem]]


_CODES: Final = {fate.value: code for code, fate in enumerate(Fate, start=1)}
_FATES: Final = dict(enumerate(Fate, start=1))
_HELD: Final = _CODES[Fate.HELD.value]
#: Of a record whose flow is declared no more.
_UNFOLLOWED: Final = 2
#: Set on a fate settled by an account whose results may not have been read.
_TENTATIVE: Final = 0x40
_MANY: Final = 255
_DIGIT_MAX: Final = 3
#: A retry is written before its account: by so much at most, or the command was in hand for a day.
_ACCOUNTED_WITHIN_MS: Final = DAY_MS


class SourceAudit:
    """The evidence about one source partition."""

    def __init__(
        self,
        topic: str,
        partition: int,
        bounds: Bounds,
        findings: Findings,
        judge: Judge | None = None,
    ) -> None:
        self._judge = judge or problems_of
        self.topic = topic
        self.partition = partition
        self.bounds = bounds
        self._findings = findings
        # Without a committed offset all is pending, and there is nothing to judge.
        self._until = max(bounds.first, min(bounds.committed or bounds.first, bounds.end))
        span = self._until - bounds.first
        self._records = bytearray(span)
        self._accounts = bytearray(span)
        self._settled = bytearray(span)
        # Of a command, digits for all that it may leave.
        self._results = bytearray(span) if judge is None else array("H", bytes(2 * span))
        self._dead_letters = bytearray(span)
        self._start: int | None = None
        self._first_accounted: int | None = None
        self._deleted = 0
        self._tally = Tally()
        self._progress = _Progress()
        self._results_deleted_to = 0
        self._dead_letters_deleted_to = 0
        self._deleted_before_ms: dict[Problem, float] = {}

    def record(self, offset: int) -> None:
        """There is a record."""
        if offset >= self._until:
            self._tally.pending += 1
        elif offset >= self.bounds.first:
            self._records[offset - self.bounds.first] = 1

    def unfollowed(self, offset: int) -> bool:
        """What the fate of a record has led to is not read; false when it is not judged anyway.

        After :meth:`record`.
        """
        is_judged = self.bounds.first <= offset < self._until
        if is_judged:
            self._records[offset - self.bounds.first] = _UNFOLLOWED
        return is_judged

    def account(self, account: Account, is_firm: bool) -> None:
        """Take what a transaction says that it did.

        ``is_firm``: all that it published has been read; else it may have, and its runs are
        beyond the committed offset.
        """
        if account.start is not None:
            self._begin(account.start, account.is_anew)
        if account.lost is not None:
            lost, following = account.lost
            self._tally.lost += following - lost
        for run in account.runs:
            if self._first_accounted is None:
                self._first_accounted = run.offset
            self._deleted += max(0, min(run.offset + run.length, self.bounds.first) - run.offset)
            self._fill(self._accounts, run, 0, Problem.ACCOUNTED_TWICE)
        self._progress.advance(account.runs, account.at_ms)
        for run in account.settled:
            self._check_held(run)
            self._fill(self._settled, run, 0 if is_firm else _TENTATIVE, Problem.SETTLED_TWICE)
            self._progress.settle(run, account.at_ms)

    def result(self, offset: int) -> bool:
        """A result names the offset; false when no such record can be."""
        return self._count(self._results, offset)

    def dead_letter(self, offset: int) -> bool:
        """A dead letter names the offset; false when no such record can be."""
        return self._count(self._dead_letters, offset)

    def traced(self, offset: int, step: int) -> bool:
        """A command has left one more trace; false when no such command can be.

        ``step`` says which: 1, 4, 16 and so on, a digit to the base of 4 each, that stops at 3.
        """
        if self.bounds.first <= offset < self._until:
            index = offset - self.bounds.first
            traces = self._results[index]
            self._results[index] = traces + step * (traces // step % 4 < _DIGIT_MAX)
        return 0 <= offset < self.bounds.end

    def fate(self, offset: int) -> Fate | None:
        """Fate of a record, once it is certain; all accounts must have been taken."""
        if not self.bounds.first <= offset < self._until:
            return None
        index = offset - self.bounds.first
        evidence = Evidence(1, self._accounts[index], self._settled[index], 0, 0)
        return evidence.fate if evidence.is_firm else None

    def deleted_before(self, problem: Problem, at_ms: float) -> None:
        """Retention has deleted what was written before; nobody can miss it any more."""
        self._deleted_before_ms[problem] = max(at_ms, self._deleted_before_ms.get(problem, 0))

    def results_begin_with(self, offset: int | None) -> None:
        """Retention has deleted results of this source that lay before the one of ``offset``.

        ``None``: there is none any more.
        """
        deleted_to = self.bounds.end if offset is None else self._progress.of(offset)
        self._results_deleted_to = max(self._results_deleted_to, deleted_to)

    def dead_letters_begin_with(self, offset: int | None) -> None:
        """Retention has deleted dead letters; see :meth:`results_begin_with`."""
        deleted_to = self.bounds.end if offset is None else self._progress.of(offset)
        self._dead_letters_deleted_to = max(self._dead_letters_deleted_to, deleted_to)

    def conclude(self, closing: Closing, has_all_accounts: bool) -> Tally:
        """Judge the evidence."""
        self._check_bounds(closing, has_all_accounts)
        audited_from = self._audited_from(closing.first, has_all_accounts)
        tally = self._tally
        begin = audited_from - self.bounds.first
        # Records of which the log, or the accounts, were deleted meanwhile.
        due_from = max(self._start or 0, self.bounds.first) - self.bounds.first
        of_log = sum(self._records.count(one, due_from, begin) for one in (1, _UNFOLLOWED))
        tally.not_auditable += self._deleted + of_log
        bad: dict[tuple[int, ...], list[Problem]] = {}
        for combination, count in Counter(self._evidence(begin)).items():
            evidence = Evidence(*combination)
            _tally_up(tally, evidence, count)
            problems = list(self._judge(evidence))
            if problems:
                bad[evidence] = problems
        if bad:
            self._look_up(begin, bad)
        return tally

    def _begin(self, start: int, is_wanted: bool) -> None:
        if self._start is not None and not is_wanted:
            self._find(Problem.STARTED_ANEW, start)
        if self._start is not None or is_wanted:
            begin = max(0, start - self.bounds.first)
            rest = bytes(len(self._accounts[begin:]))
            self._accounts[begin:] = rest
            self._settled[begin:] = rest
        self._start = start

    def _clip(self, run: Run) -> tuple[int, int]:
        first = self.bounds.first
        return (
            max(run.offset, first) - first,
            min(run.offset + run.length, self._until) - first,
        )

    def _fill(self, column: bytearray, run: Run, flag: int, problem: Problem) -> None:
        begin, end = self._clip(run)
        if begin >= end:
            return
        code = _CODES.get(run.fate)
        if code is None or (column is self._settled and code == _HELD):
            self._find(Problem.UNKNOWN_FATE, run.offset, run.length)
            return
        if column.count(0, begin, end) != end - begin:
            for offset in range(begin, end):
                if column[offset]:
                    self._find(problem, offset + self.bounds.first)
        column[begin:end] = bytes([code | flag]) * (end - begin)

    def _check_held(self, run: Run) -> None:
        begin, end = self._clip(run)
        if begin < end and self._accounts.count(_HELD, begin, end) != end - begin:
            for offset in range(begin, end):
                if self._accounts[offset] != _HELD and not self._is_before_accounts(offset):
                    self._find(Problem.SETTLED_NOT_HELD, offset + self.bounds.first)

    def _is_before_accounts(self, index: int) -> bool:
        """Held by an account that retention has deleted."""
        offset = index + self.bounds.first
        return self._start is None and (
            self._first_accounted is None or offset < self._first_accounted
        )

    def _count(self, column: MutableSequence[int], offset: int) -> bool:
        if self.bounds.first <= offset < self._until:
            index = offset - self.bounds.first
            column[index] = min(column[index] + 1, _MANY)
        return 0 <= offset < self.bounds.end

    def _check_bounds(self, closing: Closing, has_all_accounts: bool) -> None:
        committed = self.bounds.committed
        is_accounted = self._start is not None or self._first_accounted is not None
        # The group's first transaction may have been open when its offset was asked for.
        if not closing.has_committed and is_accounted:
            self._find(Problem.NO_COMMITTED_OFFSET, self._start or self._first_accounted or 0)
        if committed is not None and committed > self.bounds.end:
            self._find(Problem.BEYOND_THE_LOG, committed)
        if committed is not None and self._start is None and has_all_accounts:
            self._find(Problem.NO_START, self.bounds.first)

    def _audited_from(self, first: int, has_all_accounts: bool) -> int:
        begin = self._start
        if begin is None:
            begin = self._first_accounted
            if begin is None:
                begin = self.bounds.first if has_all_accounts else self._until
        return min(max(begin, first, self.bounds.first), self._until)

    def _evidence(self, begin: int) -> Iterator[tuple[int, int, int, int, int]]:
        """Plain tuples, equal to :class:`Evidence`: there is one for each of millions."""
        return zip(
            memoryview(self._records)[begin:],
            memoryview(self._accounts)[begin:],
            memoryview(self._settled)[begin:],
            memoryview(self._results)[begin:],
            memoryview(self._dead_letters)[begin:],
            strict=True,
        )

    def _look_up(self, begin: int, bad: Mapping[tuple[int, ...], list[Problem]]) -> None:
        """Find the offsets of bad evidence; neighbours with the same make one finding."""
        found = (
            (problem, offset)
            for offset, evidence in enumerate(self._evidence(begin), self.bounds.first + begin)
            if evidence in bad
            for problem in bad[evidence]
            if not self._is_deleted(problem, offset)
        )
        runs: dict[Problem, tuple[int, int]] = {}
        for problem, offset in found:
            start, length = runs.get(problem, (offset, 0))
            if offset == start + length:
                runs[problem] = (start, length + 1)
                continue
            self._find(problem, start, length)
            runs[problem] = (offset, 1)
        for problem, (start, length) in runs.items():
            self._find(problem, start, length)

    def _is_deleted(self, problem: Problem, offset: int) -> bool:
        """What is missing may have been deleted by retention; counts it then."""
        deleted_to = {
            Problem.MISSING_RESULT: self._results_deleted_to,
            Problem.MISSING_DEAD_LETTER: self._dead_letters_deleted_to,
        }.get(problem, 0)
        is_deleted = deleted_to > 0 and self._progress.of(offset) <= deleted_to
        if not is_deleted and problem in self._deleted_before_ms:
            written_ms = self._progress.at_ms(offset) - _ACCOUNTED_WITHIN_MS
            is_deleted = written_ms <= self._deleted_before_ms[problem]
        self._tally.not_auditable += is_deleted
        return is_deleted

    def _find(self, problem: Problem, offset: int, length: int = 1) -> None:
        self._findings.add(Finding(problem, self.topic, self.partition, offset, length))


class _Progress:
    """How far the accounts were, and when, when a record got its final fate."""

    def __init__(self) -> None:
        self._ends = array("q")
        self._times_ms = array("q")
        self._settled: dict[int, tuple[int, int]] = {}

    def advance(self, runs: tuple[Run, ...], at_ms: int) -> None:
        if runs:
            self._ends.append(runs[-1].offset + runs[-1].length)
            self._times_ms.append(at_ms)

    def settle(self, run: Run, at_ms: int) -> None:
        end = self._ends[-1] if self._ends else 0
        offsets = range(run.offset, run.offset + run.length)
        self._settled.update(dict.fromkeys(offsets, (end, at_ms)))

    def of(self, offset: int) -> int:
        """The next offset of the account that gave it its final fate."""
        settled = self._settled.get(offset)
        if settled is not None:
            return settled[0]
        index = bisect_right(self._ends, offset)
        return self._ends[index] if index < len(self._ends) else offset + 1

    def at_ms(self, offset: int) -> int:
        """When it got its final fate; 0 where no account tells."""
        settled = self._settled.get(offset)
        if settled is not None:
            return settled[1]
        index = bisect_right(self._ends, offset)
        return self._times_ms[index] if index < len(self._ends) else 0


def _tally_up(tally: Tally, evidence: Evidence, count: int) -> None:
    if not evidence.record:
        return
    fate = evidence.fate
    if fate is None:
        tally.unaccounted += count
        return
    column = "skipped" if fate in SKIPPED else fate.name.lower()
    setattr(tally, column, getattr(tally, column) + count)


def of_accounts(evidence: Evidence) -> Iterator[Problem]:
    """What is wrong between a record and its account."""
    if evidence.record and not evidence.account:
        yield Problem.UNACCOUNTED
    if evidence.account and not evidence.record:
        yield Problem.NO_RECORD


def of_dead_letters(evidence: Evidence) -> Iterator[Problem]:
    """What is wrong between a record's fate and its dead letters."""
    is_dead = bool(evidence.record) and evidence.fate is Fate.DEAD_LETTERED
    if evidence.dead_letters > 1:
        yield Problem.REPEATED_DEAD_LETTER
    elif evidence.dead_letters and not is_dead:
        yield Problem.UNEXPECTED_DEAD_LETTER
    elif not evidence.dead_letters and is_dead and evidence.is_firm:
        yield Problem.MISSING_DEAD_LETTER


def problems_of(evidence: Evidence) -> Iterator[Problem]:
    """What is wrong with a record of the decide plane."""
    yield from of_accounts(evidence)
    # A transaction marker, or a number of no record, ends as nothing.
    is_emitted = bool(evidence.record) and evidence.fate is Fate.EMITTED
    if evidence.results > 1:
        yield Problem.REPEATED_RESULT
    elif evidence.results and not is_emitted:
        yield Problem.UNEXPECTED_RESULT
    elif not evidence.results and is_emitted and evidence.is_firm:
        yield Problem.MISSING_RESULT
    yield from of_dead_letters(evidence)
