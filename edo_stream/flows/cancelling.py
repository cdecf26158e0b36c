"""What an event would cancel of a flow, held against its ``cancel_on``: by the code of a worker."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from edo_stream.core.act.tags import CANCEL_TAG
from edo_stream.core.contract import Contract
from edo_stream.core.event import Event
from edo_stream.core.facts import Facts
from edo_stream.core.record import Record
from edo_stream.core.task import TaskIdentity
from edo_stream.core.trigger import FlowTrigger, Trigger
from edo_stream.flows.flow import Flows
from edo_stream.flows.trial import Answer, answer_of


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Commands that an event cancels: those with a value, of the flow's key or of a field."""

    field: str | None
    """``None``: the key."""
    value: str


@dataclass(frozen=True, slots=True)
class Cancelling:
    """What an event says to ``cancel_on``."""

    answers: Sequence[Answer] = ()
    """Of the entries for its topic."""
    cancelled: Sequence[Cancelled] = ()
    reason: str | None = None
    """Of the dead letter that it is, if it has no such value."""


def cancel_topics(name: str, flows: Flows) -> list[str]:
    """Topics whose events cancel commands of a flow."""
    return [*flows.flows[name].cancels] if name in flows.flows else []


def cancelling_of(
    name: str, flows: Flows, contract: Contract, app: str, seen: tuple[Record, Event]
) -> Cancelling:
    """Hold a flow's ``cancel_on`` against an event; ``app`` is the workers' id."""
    record, event = seen
    if contract.topic not in cancel_topics(name, flows):
        return Cancelling()
    facts, now_ms = Facts(event), max(0, record.timestamp)
    identity = TaskIdentity(app, contract.group, record.partition)
    entries = enumerate(flows.flows[name].declaration.cancel_on)
    wanted = {str(number): on for number, on in entries if on.topic == contract.topic}
    answers = [answer_of(label, on, facts) for label, on in wanted.items()]
    met = [on for on, one in zip(wanted.values(), answers, strict=True) if one.is_met]
    fields = {None if on.by is None else (on.by.cancelling, on.by.cancelled) for on in met}
    routes = flows.task_routes(contract.topic)
    assert routes is not None, f"{name} cancels by events of {contract.topic}"
    found: dict[Cancelled, None] = {}
    reason = None
    for route in routes.routes:
        trigger = route.trigger
        if trigger.flow != name or not trigger.cancels:
            continue
        if _by(trigger) not in fields:
            continue
        mark = Trigger(identity, contract, trigger).commands(record, event, now_ms, facts)[-1]
        headers = {key: (value or b"").decode("utf-8", "replace") for key, value in mark.headers}
        if "edo-reason" in headers:
            reason = f"{headers['edo-reason']}: {headers['edo-detail']}"
        elif CANCEL_TAG in headers:
            found[Cancelled(*msgspec.json.decode(headers[CANCEL_TAG]))] = None
        else:
            found[Cancelled(None, (mark.key or b"").decode("utf-8", "replace"))] = None
    return Cancelling(answers, [*found], reason)


def _by(trigger: FlowTrigger) -> tuple[str | None, str] | None:
    """As an entry says it: where the event has the field, and where what is cancelled has it."""
    return None if trigger.cancels_tag is None else (trigger.key, trigger.cancels_tag)
