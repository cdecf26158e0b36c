"""Follow the instances of sagas: changes without gaps, one end, each command that is told of once.

What happens to an instance is an event on the saga's topic, numbered from 1. A change that says
that a command was sent was written in one transaction with the command, so each has the other. What
retention may have deleted is not missed. An instance takes some 300 bytes, a command some 200.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from edo_stream.core.event import derive_id
from edo_stream.core.record import Headers
from edo_stream.core.redrive import REDRIVE
from edo_stream.core.saga.definition import SagaSpec
from edo_stream.observe.audit.report import Finding, Findings, Instances, Place, Problem

_OVER: Final = ("completed", "compensated", "abandoned")
_SENT: Final = ("step-sent", "undo-sent")
_UNDO: Final = "undo-sent"
_REPLAY: Final = "edo-replay"


class _Change(msgspec.Struct, frozen=True):
    saga: str
    version: int
    instance: str
    change: str
    number: int
    at: int
    step: str = ""
    command: str = ""


_decode: Final = msgspec.json.Decoder(_Change).decode


@dataclass(slots=True)
class _Instance:
    saga: str
    number: int
    status: str = "running"
    is_stuck: bool = False


class SagaAudit:
    """The evidence about the sagas of an application."""

    def __init__(self, app: str, sagas: Iterable[SagaSpec], findings: Findings) -> None:
        self._app = app
        self._sagas = {saga.name: saga for saga in sagas}
        self._of_topic = {saga.topics.starts: saga.name for saga in self._sagas.values()}
        self._findings = findings
        self._instances: dict[str, _Instance] = {}
        self._started: set[str] = set()
        self._told: dict[str, tuple[Place, str, int]] = {}
        """Commands that were told: where, on which topic they must be, and when."""
        self._firm: set[str] = set()
        self._commands: dict[str, Place] = {}
        self._starts: dict[Place, tuple[str, str]] = {}
        self._is_deleted: set[str] = set()
        """Sagas of whose events retention has deleted some."""

    def events_deleted(self, topic: str) -> None:
        """Retention has deleted events of a saga."""
        self._is_deleted |= {
            name for name, saga in self._sagas.items() if saga.topics.events == topic
        }

    def start(self, headers: Headers, at: Place) -> None:
        """Take a record of a topic of starts."""
        cause = (dict(headers).get("ce_id") or b"").decode("utf-8", "replace")
        saga = self._of_topic[at.topic]
        self._starts[at] = saga, derive_id("saga", self._app, saga, cause)

    def event(self, value: bytes | None, at: Place, is_firm: bool) -> None:
        """Take a record of a topic of events, each partition in the order of its log.

        ``is_firm``: what its transaction has written besides is read too.
        """
        try:
            change = _decode(value or b"")
        except msgspec.DecodeError:
            self._find(Problem.UNEXPLAINED, at)
            return
        known = self._instances.get(change.instance)
        if known is None:
            known = self._instances[change.instance] = _Instance(change.saga, 0)
            if change.saga in self._is_deleted:
                known.number = change.number - 1
        if change.number <= known.number:
            self._find(Problem.REPEATED_CHANGE, at)
            return
        if change.number > known.number + 1:
            self._find(Problem.MISSING_CHANGE, at)
        known.number = change.number
        self._turn(known, change.change, at)
        if change.change in _SENT and change.command:
            self._told[change.command] = at, self._topic_of(change), change.at
            if is_firm:
                self._firm.add(change.command)

    def command(self, headers: Headers, at: Place) -> None:
        """Take a record of a topic of commands of a saga's step."""
        named = dict(headers)
        if REDRIVE in named or _REPLAY in named:
            return
        command = (named.get("ce_id") or b"").decode("utf-8", "replace")
        if command in self._commands:
            self._find(Problem.REPEATED_COMMAND, at)
        self._commands[command] = at

    def conclude(
        self, emitted: Collection[Place], deleted_ms: Mapping[str, float]
    ) -> Mapping[str, Instances]:
        """Judge all evidence: instances by saga.

        ``emitted`` are records of topics of starts that have started an instance by their account;
        ``deleted_ms`` tells by topic of commands until when retention has deleted some.
        """
        for command in sorted(self._firm - self._commands.keys()):
            at, topic, at_ms = self._told[command]
            if topic and at_ms > deleted_ms.get(topic, -1):
                self._find(Problem.MISSING_COMMAND, at)
        if not self._is_deleted:
            for command, at in self._commands.items():
                if command not in self._told:
                    self._find(Problem.UNEXPECTED_COMMAND, at)
        for at in emitted:
            saga, instance = self._starts.get(at, ("", ""))
            if saga and instance not in self._instances and saga not in self._is_deleted:
                self._find(Problem.MISSING_INSTANCE, at)
        return {name: self._counted(name) for name in self._sagas}

    def _counted(self, saga: str) -> Instances:
        found = [one for one in self._instances.values() if one.saga == saga]
        counts = Counter("stuck" if one.is_stuck else one.status for one in found)
        return Instances(**counts)

    def _turn(self, known: _Instance, change: str, at: Place) -> None:
        if change in ("stuck", "resumed"):
            known.is_stuck = change == "stuck"
        elif change == "compensating":
            known.status = change
        elif change in _OVER:
            if known.status in _OVER:
                self._find(Problem.SECOND_END, at)
            known.status, known.is_stuck = change, False

    def _topic_of(self, change: _Change) -> str:
        """Topic of a step's commands; empty where no file has the version any more."""
        saga = self._sagas.get(change.saga)
        definition = None if saga is None else saga.versions.get(change.version)
        step = None if definition is None else definition.by_name.get(change.step)
        if saga is None or step is None:
            return ""
        flow = step.undo if change.change == _UNDO else step.flow
        return saga.commands.get(flow or "", "")

    def _find(self, problem: Problem, at: Place) -> None:
        self._findings.add(Finding(problem, *at))
