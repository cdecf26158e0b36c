"""What an audit finds, and the numbers per topic."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import NamedTuple

import msgspec


class Problem(Enum):
    """What an audit can find."""

    UNACCOUNTED = "record without an account"
    ACCOUNTED_TWICE = "accounted for twice"
    NO_RECORD = "accounted for, but there is no record"
    SETTLED_NOT_HELD = "settled without having been held"
    SETTLED_TWICE = "settled twice"
    UNKNOWN_FATE = "an account with an unknown fate"
    UNREADABLE_ACCOUNT = "an account that cannot be read"
    NO_START = "no account says where reading began"
    STARTED_ANEW = "reading began anew: the state was deleted"
    MISSING_RESULT = "emitted by its account, but there is no result"
    REPEATED_RESULT = "more than one result"
    UNEXPECTED_RESULT = "a result, although the account says otherwise"
    MISSING_DEAD_LETTER = "dead-lettered by its account, but there is no dead letter"
    REPEATED_DEAD_LETTER = "more than one dead letter"
    UNEXPECTED_DEAD_LETTER = "a dead letter, although the account says otherwise"
    UNEXPLAINED = "a result or dead letter of this application that names no record of a source"
    MISSING_OUTCOME = "ended by its account, but there is no outcome"
    REPEATED_OUTCOME = "more than one outcome"
    UNEXPECTED_OUTCOME = "an outcome, although the account says otherwise"
    MISSING_RETRY = "to be run again by its account, but on no tier"
    UNEXPECTED_RETRY = "on a tier, although the account says otherwise"
    MISSING_CHANGE = "a change of a saga's instance is missing before it"
    REPEATED_CHANGE = "a change of a saga's instance, more than once"
    SECOND_END = "a saga's instance ends that had ended"
    MISSING_COMMAND = "told as sent, but there is no command"
    REPEATED_COMMAND = "a saga's command, more than once"
    UNEXPECTED_COMMAND = "a saga's command that nothing tells of"
    MISSING_INSTANCE = "emitted by its account, but it has started no instance"
    BEYOND_THE_LOG = "the group has committed an offset beyond the end of the log"
    NO_COMMITTED_OFFSET = "accounted for, but the group has no committed offset"
    TOPIC_MISSING = "the topic does not exist"


class Place(NamedTuple):
    """Where a record lies, or lay."""

    topic: str
    partition: int
    offset: int


class Finding(msgspec.Struct, frozen=True):
    """Something wrong with ``length`` offsets from ``offset`` on."""

    problem: Problem
    topic: str
    partition: int
    offset: int
    length: int = 1

    def __str__(self) -> str:
        """One line for a person."""
        last = self.offset + self.length - 1
        until = f" to {last}" if self.length > 1 else ""
        return f"{self.topic}-{self.partition}@{self.offset}{until}: {self.problem.value}"


@dataclass(slots=True)
class Findings:
    """All findings by number, the first ones one by one."""

    kept_max: int
    kept: list[Finding] = field(default_factory=list)
    counts: Counter[Problem] = field(default_factory=Counter)
    """Offsets by problem."""

    def add(self, finding: Finding) -> None:
        self.counts[finding.problem] += finding.length
        if len(self.kept) < self.kept_max:
            self.kept.append(finding)


@dataclass(slots=True)
class Tally:
    """Records of a source by what became of them; ``records`` is the sum of the rest.

    ``lost`` and ``not_auditable`` come on top: offsets that were deleted before they were read,
    and records whose source, account or result retention has deleted since.
    """

    emitted: int = 0
    duplicate: int = 0
    held: int = 0
    skipped: int = 0
    dead_lettered: int = 0
    applied: int = 0
    retried: int = 0
    failed: int = 0
    unknown: int = 0
    dropped: int = 0
    passed_over: int = 0
    limited: int = 0
    cancelled: int = 0
    pending: int = 0
    unaccounted: int = 0
    lost: int = 0
    not_auditable: int = 0

    @property
    def records(self) -> int:
        total: int = sum(getattr(self, one.name) for one in fields(self))
        return total - self.lost - self.not_auditable

    def add(self, other: "Tally") -> None:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


@dataclass(slots=True)
class Commands:
    """Commands of a flow by their one end, through all retries; ``commands`` is the sum."""

    done: int = 0
    failed: int = 0
    unknown: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    skipped: int = 0
    """Not run, as their flow's singleton wants."""
    limited: int = 0
    cancelled: int = 0
    waiting: int = 0
    """On a tier, or running again."""
    parked: int = 0
    """Behind another of their key."""
    pending: int = 0
    """Not accounted for yet: running, or ended while an earlier one runs."""
    unresolved: int = 0
    """Without a fate, or retried and on no tier: a finding each, unless retention took it."""

    @property
    def commands(self) -> int:
        total: int = sum(getattr(self, one.name) for one in fields(self))
        return total


@dataclass(slots=True)
class Instances:
    """Instances of a saga by where they are, as far as their events go back."""

    running: int = 0
    compensating: int = 0
    stuck: int = 0
    """They wait for a person."""
    completed: int = 0
    compensated: int = 0
    abandoned: int = 0

    @property
    def instances(self) -> int:
        total: int = sum(getattr(self, one.name) for one in fields(self))
        return total


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit found, per source topic, and of commands per flow."""

    tallies: Mapping[str, Tally]
    findings: tuple[Finding, ...]
    """The first ones; ``counts`` has all."""
    counts: Mapping[Problem, int]
    foreign: int
    """Results and dead letters of other applications, or of sources that were not audited."""
    flows: Mapping[str, Commands] = field(default_factory=dict)
    sagas: Mapping[str, Instances] = field(default_factory=dict)
    not_declared: Mapping[str, int] = field(default_factory=dict)
    """Events that came to flows which are declared no more, and retried commands of theirs: what
    they led to is not judged."""

    @property
    def is_clean(self) -> bool:
        return not self.counts

    def as_dict(self) -> dict[str, object]:
        """Plain values for ``--json``."""
        return {
            "clean": self.is_clean,
            "topics": {
                topic: {"records": tally.records, **asdict(tally)}
                for topic, tally in self.tallies.items()
            },
            "flows": {
                flow: {"commands": one.commands, **asdict(one)} for flow, one in self.flows.items()
            },
            "sagas": {
                saga: {"instances": one.instances, **asdict(one)}
                for saga, one in self.sagas.items()
            },
            "problems": {problem.value: count for problem, count in self.counts.items()},
            "findings": [
                {**msgspec.structs.asdict(one), "problem": one.problem.value}
                for one in self.findings
            ],
            "foreign": self.foreign,
            "not_declared": dict(self.not_declared),
        }
