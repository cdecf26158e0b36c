"""Which flows of a topic want an event: one look at it for all of them.

Theory of operation. A flow wants an event by its *conditions*, of which one must hold: a pattern,
an expression, or both. The patterns of all flows of a topic are one index
(:mod:`edo_stream.core.patterns`), so that an event costs what it nearly matches, not what there
are flows; an expression is evaluated only where the condition's pattern matches. A flow without
conditions wants every event, and asks nothing of it.

What cannot be told (:class:`UndecidedError`) is told to the flow's owner by a dead letter, unless
another of its conditions holds: an event is neither lost nor made a command by a guess.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edo_stream.core.asked import DEAD_LETTER, Cause, Replies, reason_of
from edo_stream.core.contract import Contract
from edo_stream.core.correlation.feed import Feed, JoinTrigger
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event, Violation
from edo_stream.core.facts import Facts, UndecidedError, Where
from edo_stream.core.headers import utf8
from edo_stream.core.lookup.path import Path
from edo_stream.core.lookup.spec import Enrichment
from edo_stream.core.native import IS_COMPILED
from edo_stream.core.patterns import Pattern, PatternIndex
from edo_stream.core.record import Record
from edo_stream.core.task import TaskIdentity
from edo_stream.core.trigger import FlowTrigger, Trigger

if IS_COMPILED:
    from edo_stream.core._native import PlainRouter

_DATA = "data"
_TYPE = "type"
_DETAIL_CHARS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Condition:
    """What an event must be; both parts hold, a part that is missing always does."""

    pattern: Pattern | None = None
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A flow on a topic, and when it wants an event of it: one of these must hold."""

    trigger: FlowTrigger
    conditions: tuple[Condition, ...] = ()
    """None: it wants every event."""
    feed: JoinTrigger | None = None
    """Input of a correlation that an event comes to, instead of becoming a command."""
    enrichment: Enrichment | None = None
    """What is looked up before an event becomes a command."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A flow that wants an event, or that cannot tell, by its number among the routes."""

    route: int
    undecided: str | None = None
    """Why it cannot be told."""


class Routes:
    """The routes of one topic, compiled together; made once, shared by the topic's tasks."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self.routes: Sequence[Route] = tuple(routes)
        self.always = tuple(n for n, route in enumerate(self.routes) if not route.conditions)
        """Numbers of the routes that want every event."""
        places = [
            ((number, condition), condition.pattern)
            for number, route in enumerate(self.routes)
            for condition in route.conditions
        ]
        self._index = PatternIndex(
            (place, pattern) for place, pattern in places if pattern is not None
        )
        self._unmatched = tuple(place for place, pattern in places if pattern is None)
        """Conditions that are an expression alone."""
        self._has_patterns = len(self._unmatched) < len(places)
        self._needs_data = self._index.asks_for(_DATA)
        self.is_conditional = bool(places)
        has_where = any(condition.where is not None for (_, condition), _ in places)
        self.is_by_type = not (has_where or self._unmatched) and self._index.asks_only_for(_TYPE)
        """Whether an event's type alone decides."""

    def choose(self, facts: Facts) -> list[Choice]:
        """Which routes with conditions want an event, each once, in the order of the routes."""
        conditions: list[tuple[int, Condition]] = list(self._unmatched)
        if self._has_patterns:
            event = facts.whole if self._needs_data else facts.attributes
            conditions += self._index.matches(event)
        found: dict[int, str | None] = {}
        for number, condition in conditions:
            if found.get(number, "") is None:
                continue
            try:
                if condition.where is None or condition.where(facts):
                    found[number] = None
            except UndecidedError as error:
                found.setdefault(number, str(error))
        return [Choice(number, found[number]) for number in sorted(found)]


def bound(identity: TaskIdentity, contract: Contract, route: Route) -> Trigger | Feed | Path:
    """What writes the record of a route, within a task."""
    if route.feed is not None:
        return Feed(identity, contract, route.feed)
    if route.enrichment is not None:
        return Path(identity, contract.topic, identity.partition, route.enrichment)
    return Trigger(identity, contract, route.trigger)


def _replies(routes: Iterable[Route]) -> list[Replies]:
    """Where flows of a topic reply, each place once."""
    found = [(route.feed or route.trigger).replies for route in routes]
    return [*{one.topic: one for one in reversed(found) if one is not None}.values()]


class Router:
    """The flows of one topic within one task of it."""

    def __init__(self, identity: TaskIdentity, contract: Contract, routes: Routes) -> None:
        self._routes = routes
        self._triggers = [bound(identity, contract, route) for route in routes.routes]
        self._always = [self._triggers[number] for number in routes.always]
        self._looks = routes.is_conditional or any(one.looks for one in self._triggers)
        self._source = utf8(f"/edo/{identity.app}")
        self._replies = _replies(routes.routes)
        self.fastest: Router | PlainRouter = self
        """What is asked for commands: this one, or the compiled one that does the same."""
        cancels = any(route.trigger.cancels for route in routes.routes)
        if IS_COMPILED and routes.is_by_type and not cancels:
            writers = [one.compiled() for one in self._triggers]
            choose = self._chosen if routes.is_conditional else None
            self.fastest = PlainRouter(self._triggers, writers, routes.always, choose, Facts)

    def _chosen(self, facts: Facts) -> list[int]:
        """Numbers of the routes with conditions that want an event, where its type decides."""
        return [choice.route for choice in self._routes.choose(facts)]

    def refused(self, record: Record, why: Violation, now_ms: int) -> list[Publish]:
        """Replies to a request that is no event of the topic, and so leads to nothing."""
        named = dict(record.headers) if self._replies else {}
        request, correlation_id = (
            (named.get(name) or b"").decode("utf-8", "replace")
            for name in ("ce_id", "ce_correlationid")
        )
        place = f"{record.topic}/{record.partition}/{record.offset}"
        data = reason_of("poison", why.reason, why.detail[:_DETAIL_CHARS_MAX])
        found = []
        for replies in self._replies:
            asker = replies.asker(record.headers, request, correlation_id)
            cause = Cause(replies.flow, DEAD_LETTER, self._source, request, now_ms, place)
            if asker is not None and (reply := replies.reply(asker, cause, record.key, data)):
                found.append(reply)
        return found

    def commands(self, record: Record, event: Event, now_ms: int) -> list[Publish]:
        """The commands that an event leads to, and letters where that cannot be told.

        What cancels commands comes first: an event cancels none of its own.
        """
        facts = Facts(event) if self._looks else None
        found: list[Publish] = []
        for trigger in self._always:
            found += trigger.commands(record, event, now_ms, facts)
        if facts is not None and self._routes.is_conditional:
            for choice in self._routes.choose(facts):
                trigger = self._triggers[choice.route]
                if choice.undecided is None:
                    written = trigger.commands(record, event, now_ms, facts)
                    if self._routes.routes[choice.route].trigger.cancels:
                        found[:0] = written
                    else:
                        found += written
                else:
                    found += trigger.answered(
                        trigger.letter(record, event, now_ms, "undecided", choice.undecided)
                    )
        return found
