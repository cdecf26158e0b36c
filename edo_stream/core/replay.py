"""What a replay does with one record of the past: a command again for some flows, or a reason.

Theory of operation. An event's command is derived from the flow and from the place of the event's
record, so it can be derived again, with the same id. What must not happen is a command for a record
that never led to one: a duplicate has a place of its own, and with it would come a new id that no
receiver has seen. So a replay does not decide anew. It asks the accounts what became of the record
(:class:`~edo_stream.core.accounts.Fate`), and only one that went on is replayed. Whatever is not,
is counted with its reason, once for each flow.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from edo_stream.core.accounts import Fate
from edo_stream.core.act.command import REPLAY
from edo_stream.core.contract import Contract
from edo_stream.core.effects import Publish
from edo_stream.core.event import Decoded, Event
from edo_stream.core.facts import Facts
from edo_stream.core.headers import utf8
from edo_stream.core.record import Record
from edo_stream.core.routing import Choice, Condition, Route, Routes
from edo_stream.core.task import TaskIdentity
from edo_stream.core.trigger import FlowTrigger, Trigger

REPLAYED: Final = "replayed"
DOUBLES: Final = "doubles"
"""It would write a record that its readers cannot tell from the first one any more."""
FILTERED: Final = "filtered"
WHERE_FAILED: Final = "where-failed"
"""Whether it was asked for cannot be told."""
INVALID: Final = "invalid"
"""By its contract of today it is no event."""
NO_COMMAND: Final = "no-command"
"""None can be made of it: the first time, that was a dead letter."""
NOT_WANTED: Final = "not-wanted"
"""By the conditions that the flow has today."""
UNDECIDED: Final = "undecided"
PENDING: Final = "pending"
"""Nothing tells of it: it is still to be read, and then has its command."""

_NOBODY: Final = FlowTrigger("", "", "", 1)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a flow may do again."""

    refusal: str | None = None
    """Why nothing, if so."""
    remembered_ms: int | None = None
    """How long the readers of what it writes know a repetition; ``None``: for ever."""


class Judged(NamedTuple):
    """What a record means for a flow: its command, or the reason why there is none."""

    flow: str
    reason: str
    command: Publish | None = None
    detail: str = ""
    """Why it cannot be told whether the record was asked for."""


@dataclass(frozen=True, slots=True)
class Replayable:
    """The topic of a replay, as its tasks read it."""

    app: str
    contract: Contract
    decode: Callable[[Record], Decoded]
    routes: Routes
    flows: Mapping[str, Bounds]
    """Flows that are replayed, of those that the routes lead to."""


class Replayer:
    """Judges the records of one topic; pure. ``name`` is the replay's."""

    def __init__(self, topic: Replayable, name: str, where: Condition) -> None:
        self._topic = topic
        self._where = Routes([Route(_NOBODY, (where,))])
        self._mark = (REPLAY, utf8(name))
        self._triggers: dict[int, list[Trigger]] = {}

    def judge(self, record: Record, fate: Fate | None, now_ms: int) -> list[Judged]:
        """Judge a record by what became of it, for each flow in turn."""
        event, reason = self._event(record, fate)
        facts = None if event is None else Facts(event)
        detail = ""
        if facts is not None:
            reason, detail = _left_out(self._where.choose(facts))
        routes = self._topic.routes
        chosen = {} if facts is None else {one.route: one for one in routes.choose(facts)}
        judged = []
        for number, route in enumerate(routes.routes):
            bounds = self._topic.flows.get(route.trigger.flow)
            if bounds is None:
                continue
            why = bounds.refusal or reason
            if why is None and number not in routes.always:
                why = _not_wanted(chosen.get(number))
            if why is None and bounds.remembered_ms is not None:
                is_forgotten = now_ms - record.timestamp >= bounds.remembered_ms
                why = DOUBLES if is_forgotten else None
            if why is not None or event is None:
                told = detail if why == WHERE_FAILED else ""
                judged.append(Judged(route.trigger.flow, why or INVALID, detail=told))
                continue
            trigger = self._triggers_of(record.partition)[number]
            commands = trigger.commands(record, event, now_ms, facts)
            replies = route.trigger.replies
            judged += [
                self._again(command, route.trigger)
                for command in commands
                if replies is None or command.topic != replies.topic
            ]
        return judged

    def _event(self, record: Record, fate: Fate | None) -> tuple[Event | None, str | None]:
        if fate is not Fate.EMITTED:
            return None, PENDING if fate is None else fate.name.lower().replace("_", "-")
        event = self._topic.decode(record)
        return (event, None) if isinstance(event, Event) else (None, INVALID)

    def _again(self, command: Publish, trigger: FlowTrigger) -> Judged:
        if command.topic != trigger.commands:
            return Judged(trigger.flow, NO_COMMAND)
        marked = msgspec.structs.replace(command, headers=[*command.headers, self._mark])
        return Judged(trigger.flow, REPLAYED, marked)

    def _triggers_of(self, partition: int) -> list[Trigger]:
        triggers = self._triggers.get(partition)
        if triggers is None:
            topic = self._topic
            identity = TaskIdentity(topic.app, topic.contract.group, partition)
            triggers = self._triggers[partition] = [
                Trigger(identity, topic.contract, route.trigger) for route in topic.routes.routes
            ]
        return triggers


def _left_out(choices: Sequence[Choice]) -> tuple[str | None, str]:
    """Why an event is none of those that were asked for, and details; ``None``: it is one."""
    if not choices:
        return FILTERED, ""
    undecided = choices[0].undecided
    return (None, "") if undecided is None else (WHERE_FAILED, undecided)


def _not_wanted(choice: Choice | None) -> str | None:
    if choice is None:
        return NOT_WANTED
    return None if choice.undecided is None else UNDECIDED
