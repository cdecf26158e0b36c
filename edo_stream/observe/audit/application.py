"""Take the records of an application's topics for evidence about its sources."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from edo_stream.core.accounts import Account, Fate
from edo_stream.core.act.command import ORIGIN
from edo_stream.core.correlation.joined import flow_of
from edo_stream.core.correlation.outlet import OF
from edo_stream.core.record import Headers
from edo_stream.observe.audit.commands import Chains, Trace, commands_of, problems_of_command
from edo_stream.observe.audit.evidence import (
    Bounds,
    Closing,
    Judge,
    SourceAudit,
    of_accounts,
    problems_of,
)
from edo_stream.observe.audit.report import (
    Finding,
    Findings,
    Instances,
    Place,
    Problem,
    Report,
    Tally,
)
from edo_stream.observe.audit.waits import Part, places_of, problems_of_joined
from edo_stream.registry.names import INTERNAL_PREFIX

_COMMANDS: Final = f"{INTERNAL_PREFIX}commands."
_OF_NO_COMMAND: Final = ("empty", "unmatched")
_decode_account: Final = msgspec.json.Decoder(Account).decode


class Internal(NamedTuple):
    """Sources of our own, besides commands."""

    joins: Collection[str] = ()
    """Topics of what flows wait for."""
    accounted: Collection[str] = ()
    """Topics whose records need no trace but their account."""
    parts: Mapping[str, Part] = {}
    """What results of flows that wait are, by flow."""


class Audit:
    """An application's accounts, results and dead letters against its sources.

    ``flows`` are the topics of commands, by flow, and ``tiers`` those of retries.
    """

    def __init__(  # noqa: PLR0913 - what there is to audit
        self,
        app: str,
        topics: Collection[str],
        findings: Findings,
        flows: Mapping[str, str] | None = None,
        tiers: Collection[str] = (),
        internal: Internal | None = None,
    ) -> None:
        self._flows = flows or {}
        self._commands = frozenset(self._flows.values())
        self._tiers = frozenset(tiers)
        internal = internal or Internal()
        self._parts = internal.parts
        self._judges: dict[str, Judge] = dict.fromkeys(internal.joins, problems_of_joined)
        self._judges |= dict.fromkeys(internal.accounted, of_accounts)
        self._judges |= dict.fromkeys((*self._tiers, *self._flows.values()), problems_of_command)
        self._app = app
        self._results_source = f"/edo/{app}".encode()
        self._waits_source = f"/edo/{app}/waits".encode()
        self._app_name = app.encode()
        self._findings = findings
        self._sources: dict[tuple[str, int], SourceAudit] = {}
        self._tallies = {topic: Tally() for topic in topics}
        self._foreign = 0
        self._not_declared: Counter[str] = Counter()
        self._unfollowed: set[Place] = set()
        """Commands of flows that are declared no more, and that were retried."""
        self._chains = Chains(self._sources, findings)

    def source(self, topic: str, partition: int, bounds: Bounds) -> SourceAudit:
        """Begin the audit of a source partition; before any evidence."""
        judge = self._judges.get(topic, problems_of)
        audit = SourceAudit(topic, partition, bounds, self._findings, judge)
        self._sources[topic, partition] = audit
        return audit

    def find(self, problem: Problem, at: Place) -> None:
        """Add a finding that needs no evidence."""
        self._findings.add(Finding(problem, *at))

    def account(self, value: bytes | None, at: Place, is_firm: bool) -> None:
        """Take a record of the topic of accounts; see :meth:`SourceAudit.account`."""
        try:
            account = _decode_account(value or b"")
        except msgspec.DecodeError:
            self.find(Problem.UNREADABLE_ACCOUNT, at)
            return
        source = self._sources.get((account.topic, account.partition))
        if account.app == self._app and source is not None:
            source.account(account, is_firm)

    def records(self, topic: str, partition: int, offsets: Iterable[int]) -> None:
        """Take records of a source."""
        record = self._sources[topic, partition].record
        for offset in offsets:
            record(offset)

    def joined(self, at: Place, value: bytes | None) -> None:
        """Take a record of a topic of joins, besides :meth:`records`.

        Where results of a flow are that is declared no more, nothing says: none is missed.
        """
        flow = flow_of(value)
        if flow is None or flow in self._parts:
            return
        if self._sources[at[:2]].unfollowed(at.offset):
            self._not_declared[flow] += 1

    def retries(self, at: Place, at_ms: int, headers: Headers) -> None:
        """Take a record of a tier, besides :meth:`records`.

        The ends of a flow that is declared no more are not read: none is missed.
        """
        origin = _place_of(dict(headers).get(ORIGIN))
        if origin is None or origin == at:
            return
        if origin.topic in self._commands:
            self._chains.retry(origin, at, at_ms)
        elif self._sources[at[:2]].unfollowed(at.offset) and origin not in self._unfollowed:
            self._unfollowed.add(origin)
            self._not_declared[origin.topic.removeprefix(_COMMANDS)] += 1

    def firing(self, headers: Headers, at: Place, *, is_failure: bool = False) -> None:
        """Take a record of a topic that flows which wait write to, if it is one of theirs."""
        named = dict(headers)
        flow = (named.get("edo-flow") or b"").decode("utf-8", "replace")
        if named.get("ce_source") != self._waits_source or OF not in named:
            return
        part = Part.FAILURE if is_failure else self._parts.get(flow, Part.RESULT)
        places = places_of(named[OF])
        if places is None:
            self.find(Problem.UNEXPLAINED, at)
            return
        for place in places:
            source = self._sources.get(place[:2])
            if source is not None and not source.traced(place.offset, part):
                self.find(Problem.UNEXPLAINED, at)

    def outcome(self, headers: Headers, at: Place) -> None:
        """Take a record of a topic of outcomes."""
        named = dict(headers)
        if named.get("ce_source") == self._waits_source:
            self.firing(headers, at, is_failure=True)
            return
        if named.get("ce_source") != self._results_source:
            self._foreign += 1
            return
        kind = (named.get("ce_type") or b"").rpartition(b".")[2].decode("utf-8", "replace")
        if kind in _OF_NO_COMMAND and ORIGIN not in named:
            # An event that was split into nothing, or whose row was not there.
            return
        trace = Trace.__members__.get(kind.upper())
        cause = _place_of(named.get(ORIGIN))
        if trace is None or trace is Trace.RETRY:
            self.find(Problem.UNEXPLAINED, at)
        elif cause is None or not self._chains.end(cause, trace):
            self._take(cause, at, lambda source, offset: source.traced(offset, trace))

    def command_letter(self, headers: Headers, at: Place) -> None:
        """Take a record of a flow's topic of dead letters."""
        named = dict(headers)
        if named.get("edo-app") != self._app_name:
            self._foreign += 1
            return
        if ORIGIN not in named and "edo-position" in named:
            # An event without a key: it never became a command.
            return
        cause = _place_of(named.get(ORIGIN))
        if cause is None or not self._chains.end(cause, None):
            self._take(cause, at, SourceAudit.dead_letter)

    def result(self, headers: Headers, at: Place) -> Place | None:
        """Take a record of a topic of results; where its cause is, if it is one of ours."""
        named = dict(headers)
        if named.get("ce_source") != self._results_source:
            self._foreign += 1
            return None
        cause = _place_of(named.get("ce_edoposition"))
        return self._take(cause, at, SourceAudit.result)

    def dead_letter(self, headers: Headers, at: Place) -> Place | None:
        """Take a record of a topic of dead letters, as :meth:`result` does."""
        # Of a name that occurs twice the last one is ours: a dead letter may fail again.
        named = dict(headers)
        if named.get("edo-app") != self._app_name:
            self._foreign += 1
            return None
        parts = [named.get(f"edo-{part}") or b"" for part in ("topic", "partition", "offset")]
        return self._take(_place_of(b"/".join(parts)), at, SourceAudit.dead_letter)

    def results_begin_with(self, topic: str, partition: int, offset: int | None) -> None:
        """Results of a source were deleted; see :meth:`SourceAudit.results_begin_with`."""
        if (source := self._sources.get((topic, partition))) is not None:
            source.results_begin_with(offset)

    def dead_letters_begin_with(self, topic: str, partition: int, offset: int | None) -> None:
        """Dead letters of a source were deleted; as with results."""
        if (source := self._sources.get((topic, partition))) is not None:
            source.dead_letters_begin_with(offset)

    def deleted_before(
        self, topics: Collection[str], partition: int, problem: Problem, at_ms: float
    ) -> None:
        """Retention has deleted what tells of a fate, of sources; see ``SourceAudit``."""
        for topic in topics:
            if (source := self._sources.get((topic, partition))) is not None:
                source.deleted_before(problem, at_ms)

    def emitted(self, places: Iterable[Place]) -> list[Place]:
        """Those of the records that were emitted, by accounts; once all of these were taken."""
        return [
            place
            for place in places
            if (source := self._sources.get(place[:2])) is not None
            and source.fate(place.offset) is Fate.EMITTED
        ]

    def conclude(
        self,
        closings: Mapping[tuple[str, int], Closing],
        has_all_accounts: bool,
        sagas: Mapping[str, Instances] | None = None,
    ) -> Report:
        """Judge all evidence, with one closing for each source.

        ``has_all_accounts`` is false when retention has deleted accounts.
        """
        self._chains.conclude()
        for place, source in self._sources.items():
            self._tallies[source.topic].add(source.conclude(closings[place], has_all_accounts))
        chains = self._chains.ended()
        flows = {
            flow: commands_of(self._tallies[topic], chains.get(topic, Counter()))
            for flow, topic in self._flows.items()
        }
        kept, counts = tuple(self._findings.kept), self._findings.counts
        return Report(
            self._tallies, kept, counts, self._foreign, flows, sagas or {}, self._not_declared
        )

    def _take(
        self, cause: Place | None, at: Place, count: Callable[[SourceAudit, int], bool]
    ) -> Place | None:
        if cause is None:
            self.find(Problem.UNEXPLAINED, at)
            return None
        source = self._sources.get(cause[:2])
        if source is None:
            if cause.topic in self._tallies:
                self.find(Problem.UNEXPLAINED, at)
            else:
                self._foreign += 1
            return None
        if not count(source, cause.offset):
            self.find(Problem.UNEXPLAINED, at)
        return cause


def _place_of(text: bytes | None) -> Place | None:
    """Read ``topic/partition/offset``."""
    parts = (text or b"").split(b"/")
    if len(parts) != 3 or not (parts[1].isdigit() and parts[2].isdigit()):
        return None
    return Place(parts[0].decode("utf-8", "replace"), int(parts[1]), int(parts[2]))
