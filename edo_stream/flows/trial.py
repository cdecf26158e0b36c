"""One flow held against one event, and why it came out so: the same code as a worker's.

For people who ask why a flow did or did not start: each condition with its answer, of a condition
that is not met the first part that is false, and the command, or the letter, that would be written.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from edo_stream.core.contract import Contract
from edo_stream.core.correlation.feed import Feed, Reader
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event
from edo_stream.core.facts import Facts, UndecidedError
from edo_stream.core.lookup.path import NULL, with_rows
from edo_stream.core.lookup.spec import Enrichment, OnMissing
from edo_stream.core.patterns import parse_pattern, reason_of
from edo_stream.core.record import Record
from edo_stream.core.task import TaskIdentity
from edo_stream.core.trigger import Trigger
from edo_stream.flows.correlation import COMBINED, extra_inputs_of, inputs_of
from edo_stream.flows.declaration import On
from edo_stream.flows.expression import WhereExpression
from edo_stream.flows.flow import Flows
from edo_stream.flows.rules.patterns import leaves
from edo_stream.flows.when import JoinInput, When

_OPENING: Final = {"(": ")", "[": "]", "{": "}"}
_VALUE_CHARS_MAX: Final = 200
_NO_ROWS: Final[Mapping[str, bytes]] = {}
_EMPTY: Final = "split: its list is empty"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one entry of ``on`` says of an event."""

    label: str
    """Number of the entry, from 0, or name of the input."""
    is_met: bool | None
    """``None``: it cannot be told."""
    why: str | None = None
    """The first condition that is false, or why it cannot be told."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a flow would do with an event."""

    answers: Sequence[Answer]
    """Of the entries for the event's topic."""
    written: Publish | None
    """The command, the record by which a flow that waits gets the event, or the dead letter.

    ``None``: the flow does not want the event.
    """
    is_command: bool
    reason: str | None = None
    """Of the dead letter: its code, and what it says."""
    commands: int = 1
    """How many there are of a flow that splits; ``written`` is the first."""
    waits_for: str | None = None
    """The first row that it looks up and that was not given, and what comes of that."""
    input: str | None = None
    """Which input the event is, of a flow that has ``when``."""

    @property
    def why(self) -> str | None:
        """The first condition that is false, if the flow does not want the event."""
        if self.is_command:
            return None
        if self.waits_for is not None:
            return self.waits_for
        if self.reason is not None:
            return self.reason
        return next((one.why for one in self.answers if one.why is not None), None)


def trial_of(  # noqa: PLR0913 - all that an answer depends on
    name: str,
    flows: Flows,
    contract: Contract,
    app: str,
    seen: tuple[Record, Event],
    rows: Mapping[str, bytes] = _NO_ROWS,
) -> Trial:
    """Hold a flow against an event of one of its topics; ``app`` is the workers' id.

    ``rows`` are what it looks up, as JSON by the lookups' names.
    """
    record, event = seen
    facts, now_ms = Facts(event), max(0, record.timestamp)
    identity = TaskIdentity(app, contract.group, record.partition)
    wanted = wanted_by(name, flows, contract.topic)
    answers = [answer_of(label, on, facts) for label, on in wanted.items()]
    routes = flows.task_routes(contract.topic)
    assert routes is not None, f"{name} wants events of {contract.topic}"
    own = [one for one in routes.routes if one.trigger.flow == name and not one.trigger.cancels]
    trigger = Trigger(identity, contract, own[0].trigger)
    met = [label for label, one in zip(wanted, answers, strict=True) if one.is_met]
    written: Publish
    count, named = 1, None
    if met and own[0].feed is not None:
        named = met[0] if flows.joins[name].word == "when" else None
        feed = next(one.feed for one in own if one.feed and one.feed.input == (named or COMBINED))
        written = Feed(identity, contract, feed).command(record, event, now_ms, facts)
    elif met:
        if own[0].enrichment is not None:
            found, why = _looked_up(own[0].enrichment, record, facts, rows)
            if why is not None:
                return Trial(answers, None, is_command=False, waits_for=why)
            facts = with_rows(facts, found)
        all_written = trigger.commands(record, event, now_ms, facts)
        count = sum(one.topic == own[0].trigger.commands for one in all_written)
        if not all_written:
            return Trial(answers, None, is_command=False, reason=_EMPTY)
        written = all_written[0]
    elif any(one.is_met is None for one in answers):
        why = next(one.why for one in answers if one.is_met is None)
        written = trigger.letter(record, event, now_ms, "undecided", why or "")
    else:
        return Trial(answers, None, is_command=False)
    if written.topic != own[0].trigger.dead_letters:
        if not count:
            return Trial(answers, None, is_command=False, reason=f"{_EMPTY}, and it is told so")
        is_command = own[0].feed is None
        return Trial(answers, written, is_command=is_command, commands=count, input=named)
    said = dict(written.headers)
    reason = f"{_text(said.get('edo-reason'))}: {_text(said.get('edo-detail'))}"
    return Trial(answers, written, is_command=False, reason=reason)


def _looked_up(
    enrichment: Enrichment, record: Record, facts: Facts, rows: Mapping[str, bytes]
) -> tuple[dict[str, bytes], str | None]:
    """The rows of an event; or the first that is missing, where it does not go on with null."""
    found: dict[str, bytes] = {}
    for lookup in enrichment.lookups:
        row = rows.get(lookup.name)
        if row is None:
            key = Reader(lookup.key).read(record, facts)
            told = "none" if key is None else key.decode("utf-8", "replace")[:_VALUE_CHARS_MAX]
            if lookup.missing is not OnMissing.NULL or (key and lookup.wait_ms):
                return found, f"lookup.{lookup.name}: the row of {lookup.table} with key {told}"
            row = NULL
        found[lookup.name] = row
    return found, None


def wanted_by(name: str, flows: Flows, topic: str) -> dict[str, On | JoinInput]:
    """What a flow wants of a topic: the entries of its ``on`` by number, or its inputs by name."""
    join = flows.joins.get(name)
    if join is not None and isinstance(join.when, When):
        inputs = inputs_of(join.when) | extra_inputs_of(join.when)
        return {label: one for label, one in inputs.items() if one.topic == topic}
    entries = enumerate(flows.flows[name].declaration.on)
    return {str(number): on for number, on in entries if on.topic == topic}


def topics_of(name: str, flows: Flows) -> list[str]:
    """Topics whose events a flow wants."""
    join = flows.joins.get(name)
    if join is not None:
        return list(dict.fromkeys(source.topic for source in join.sources))
    return list(flows.flows[name].wants)


def answer_of(label: str, on: On | JoinInput, facts: Facts) -> Answer:
    """What an entry says of an event."""
    if on.match is not None:
        reason = reason_of(parse_pattern(on.match), facts.whole)
        if reason is not None:
            return Answer(label, False, f"match: {_unmet(on.match, reason)}")
    if on.where is None:
        return Answer(label, True)
    try:
        if WhereExpression(on.where)(facts):
            return Answer(label, True)
    except UndecidedError as error:
        return Answer(label, None, str(error))
    return Answer(label, False, f"where: {first_false(on.where, facts)} is false")


def _unmet(pattern: Mapping[str, Any], reason: Any) -> str:
    if reason.is_split:
        return f"{reason.path}: no one element of the array has all that is wanted of it"
    wanted = [
        msgspec.json.encode(_at(pattern, leaf.place)).decode()
        for leaf in leaves(pattern, (), ())
        if ".".join(leaf.names) == reason.path
    ]
    found = "nothing" if reason.found is None else ", ".join(map(_shown, reason.found))
    return f"{reason.path}: expected {' or '.join(wanted)[:_VALUE_CHARS_MAX]}, found {found}"


def _at(pattern: Any, place: Sequence[str | int]) -> Any:
    for part in place:
        pattern = pattern[part]
    return pattern


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()[:_VALUE_CHARS_MAX]


def first_false(text: str, facts: Facts) -> str:
    """The first of the parts joined by ``&&`` that is false; the whole if that cannot be told."""
    for part in parts_of(text):
        try:
            if not WhereExpression(part)(facts):
                return part
        except (UndecidedError, ValueError):
            break
    return text


def parts_of(text: str) -> list[str]:
    """An expression's parts that are joined by ``&&`` at its top; else the whole."""
    parts, start = [], 0
    for at, two in _top(text):
        if two in ("||", "? "):
            return [text]
        if two == "&&":
            parts.append(text[start:at].strip())
            start = at + 2
    return [*parts, text[start:].strip()]


def _top(text: str) -> Iterator[tuple[int, str]]:
    """Operators outside of brackets and texts: where, and ``&&``, ``||`` or ``? ``."""
    closing: list[str] = []
    quote = ""
    at = 0
    while at < len(text):
        character = text[at]
        if quote:
            if character == "\\":
                at += 1
            elif character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        elif character in _OPENING:
            closing.append(_OPENING[character])
        elif closing and character == closing[-1]:
            closing.pop()
        elif not closing and text[at : at + 2] in ("&&", "||"):
            yield at, text[at : at + 2]
            at += 1
        elif not closing and character == "?":
            yield at, "? "
        at += 1


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
