"""What a ``flows/<name>.yaml`` may say: its keys, their values, their defaults."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, ValidationInfo

from edo_stream.core.contract import DAY_MS
from edo_stream.flows.actions import Action
from edo_stream.flows.combine import Batch, Debounce
from edo_stream.flows.when import InputName, When
from edo_stream.registry.declaration import Declared, Partitions, Retry
from edo_stream.registry.names import GroupName, Key, Place, Text, TopicName, is_pointer
from edo_stream.registry.quantity import Duration, PositiveDuration

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")


def _own_name(value: object, info: ValidationInfo) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"{value} is not a flow's name: write lower-case letters, digits and -")
    file = (info.context or {}).get("file", value)
    if value != file:
        raise ValueError(f"{value} is not the name of its file: write {file}, or rename the file")
    return value


def _list_of_topics(value: object) -> object:
    """One topic, or one mapping, is a list of one."""
    items = value if isinstance(value, list) else [value]
    return [{"topic": item} if isinstance(item, str) else item for item in items]


def _concurrency(value: object) -> object:
    """A plain number is the most."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return {"max": value} if is_number else value


def _split(value: object) -> object:
    """A plain pointer is where the list is."""
    return {"at": value} if isinstance(value, str) else value


def _pointer(value: object) -> str:
    if is_pointer(value):
        return str(value)
    raise ValueError(f"{value} is not a JSON pointer: write one such as /items")


def _null(value: object) -> object:
    """In YAML, null is no text."""
    return "null" if value is None else value


Pointer = Annotated[str, BeforeValidator(_pointer)]
FlowName = Annotated[str, BeforeValidator(_own_name)]
TargetName = Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
Program = Annotated[str, Field(min_length=1, max_length=10_000)]
"""An expression or a template of a flow."""


class On(Declared):
    """Events that a flow wants: of a topic, and those of them that are as it says."""

    topic: TopicName = Field(examples=["shop.order.placed"], description="A topic with a contract.")
    match: dict[str, Any] | None = Field(
        default=None,
        examples=['{data: {total: [{numeric: [">", 100]}]}}'],
        description="A pattern over the whole event, as Amazon EventBridge has them.",
    )
    where: Program | None = Field(
        default=None,
        examples=["data.total > data.limit"],
        description="An expression in CEL that must be true, where a pattern is not enough.",
    )


class Input(Declared):
    """What a command's data is made of; one of the three."""

    jq: Program | None = Field(default=None, description="A program of jq over the whole event.")
    cel: Program | None = Field(default=None, description="An expression in CEL over it.")
    template: Program | None = Field(
        default=None, description="A template in Jinja that gives a JSON document."
    )


class SplitRules(Declared):
    """Where the list is of which each element is a command; one of the first three."""

    at: Pointer | None = Field(
        default=None, examples=["/items"], description="A JSON pointer into the data."
    )
    jq: Program | None = Field(default=None, description="A program of jq that gives the list.")
    cel: Program | None = Field(default=None, description="An expression in CEL that does.")
    key: Pointer | None = Field(
        default=None,
        examples=["/sku"],
        description="The key, as a pointer into the element; default: the event's, by key.",
    )
    max: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=1_000, description="Elements; an event with more is a dead letter."
    )
    empty: Literal["event", "nothing"] = Field(
        default="event",
        description="What comes of an empty list: an event among the outcomes, or nothing.",
    )


class LookupRules(Declared):
    """A row that is looked up for each event."""

    topic: TopicName = Field(
        examples=["shop.customer.profile"],
        description="A compacted topic with a contract, which no worker reads for itself.",
    )
    key: Place | None = Field(
        default=None,
        examples=["/customer"],
        description="The row's key in the event: record, an attribute, or a JSON pointer into the "
        "data; default: the event's own key.",
    )
    missing: Annotated[
        Literal["wait", "null", "dead-letter", "failure"], BeforeValidator(_null)
    ] = Field(
        default="dead-letter",
        description="When there is no row: wait for it, go on with null, give the event up, or "
        "tell it among the outcomes.",
    )
    within: Duration | None = Field(
        default=None, examples=["10m"], description="Of wait: how long."
    )
    then: Annotated[Literal["null", "dead-letter", "failure"], BeforeValidator(_null)] = Field(
        default="dead-letter", description="Of wait: what comes after it."
    )
    max_per_key: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=1_000, description="Events of one key that may wait; more are dead letters."
    )
    table: Literal["partitioned", "global"] = Field(
        default="partitioned",
        description="Where its rows are: with the task that has their partition, to which events "
        "are brought; or, all of them, with every worker.",
    )


class Rate(Declared):
    per_second: Annotated[float, Field(gt=0, le=1_000_000, strict=False)] = Field(
        examples=[10], description="Calls a second, on average."
    )
    burst: Annotated[int, Field(ge=1)] = Field(default=1, description="Calls at once.")


def _no_key(value: object) -> object:
    raise ValueError(
        f"{value}: what is bounded is the flow's own key: write it as the flow's key, or have "
        "another flow with that key"
    )


NoKey = Annotated[None, BeforeValidator(_no_key)]
_NO_KEY: Final = "Not to be written: it is the flow's own key."


def _no_field(value: object) -> object:
    raise ValueError(
        f"commands of one {value} lie in many partitions, and no task sees all of them: have a "
        f"flow whose key is {value}, which is then kept in order by it as well"
    )


NoField = Annotated[None, BeforeValidator(_no_field)]
_NO_FIELD: Final = "Not to be written: only commands of one key meet in one task."


def _cancelled_key(value: object) -> object:
    raise ValueError(
        f"{value}: an event cancels by the flow's own key: where it has another field in common "
        "with what it cancels, write by"
    )


CancelledKey = Annotated[None, BeforeValidator(_cancelled_key)]


class Concurrency(Declared):
    max: Annotated[int, Field(ge=1, le=10_000)] = Field(
        examples=[64], description="Runs at once on one worker, at most."
    )
    adaptive: bool = Field(
        default=False,
        description="Whether their number follows what the receiver can bear, by how long runs "
        "take and whether it pushes back.",
    )
    by: NoField = Field(default=None, description=_NO_FIELD)


class ThrottleRules(Declared):
    limit: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        examples=[10], description="Commands of a key that may begin within the time, on average."
    )
    per: Duration = Field(examples=["1m"], description="The time.")
    burst: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=1, description="Commands that may begin at once."
    )
    key: NoKey = Field(default=None, description=_NO_KEY)
    by: NoField = Field(default=None, description=_NO_FIELD)


class KeyLimitRules(Declared):
    limit: Annotated[int, Field(ge=1, le=1_000)] = Field(
        examples=[1], description="Commands of a key that run, of those made within the time."
    )
    per: Duration = Field(examples=["1h"], description="The time.")
    key: NoKey = Field(default=None, description=_NO_KEY)
    by: NoField = Field(default=None, description=_NO_FIELD)


class CancelBy(Declared):
    """A field that what cancels and what is cancelled have in common, wherever each has it."""

    cancelling: Place | None = Field(
        default=None,
        examples=["/id"],
        description="Where the event that cancels has it: record, an attribute, or a JSON pointer "
        "into the data; default: the event's own key.",
    )
    cancelled: Place = Field(
        examples=["/order"], description="Where the flow's own events have it, in the same words."
    )


def _by(value: object) -> object:
    """A plain place is the same in both."""
    return {"cancelling": value, "cancelled": value} if isinstance(value, str) else value


class CancelOn(On):
    """Events that cancel commands of their key, or of another field."""

    by: Annotated[CancelBy, BeforeValidator(_by)] | None = Field(
        default=None,
        examples=["/order", "{cancelling: /id, cancelled: /order}"],
        description="Another field than the key that says which commands an event cancels.",
    )
    key: CancelledKey = Field(default=None, description=_NO_KEY)


class BreakerRules(Declared):
    failure_ratio: Annotated[float, Field(gt=0, le=1, strict=False)] = Field(
        default=0.5, description="Share of failures among the last calls at which it opens."
    )
    window: Annotated[int, Field(ge=2, le=10_000)] = Field(
        default=20, description="How many calls are looked at."
    )
    consecutive: Annotated[int, Field(ge=1)] = Field(
        default=10, description="Failures in a row at which it opens."
    )
    open: PositiveDuration = Field(default=5_000, description="How long it stays open at first.")
    open_max: PositiveDuration = Field(default=60_000, description="And at most.")
    probes: Annotated[int, Field(ge=1)] = Field(
        default=3, description="Successful probes that close it."
    )


class FlowLetters(Declared):
    owner: Text | None = Field(default=None, description="Who looks; default: the flow's owner.")
    acknowledge_within: PositiveDuration = Field(default=DAY_MS, description="How soon.")
    after: Literal["continue", "stop"] = Field(
        default="continue",
        description="stop: nothing more of the key runs until an operator lets it go on.",
    )


class FlowDeclaration(Declared):
    """One flow."""

    name: FlowName = Field(examples=["ship-order"], description="Also the file's name.")
    owner: Text = Field(examples=["team-shipping"], description="Who is asked about it.")
    description: Text = Field(examples=["Ships an order."], description="What it does.")
    on: Annotated[list[On], BeforeValidator(_list_of_topics), Field(min_length=1)] = Field(
        default=[],
        examples=["shop.order.placed"],
        description="A topic with a contract, {topic, match, where}, or a list of them: each event "
        "of it that goes on, and is as one of them says, is a command.",
    )
    when: When | None = Field(
        default=None,
        examples=["{all: {…}, within: 1d}"],
        description="Instead of on: events that are waited for, until all that is needed is there.",
    )
    debounce: Debounce | None = Field(
        default=None,
        examples=["{quiet: 30s, max: 5m}"],
        description="One command for the events of a key, of the last of them, once it is quiet.",
    )
    batch: Batch | None = Field(
        default=None,
        examples=["{count: 100, bytes: 256KiB, after: 10s}"],
        description="One command for a list of events of a key.",
    )
    key: Key | None = Field(
        default=None, description="What is kept in order; default: the event's own key."
    )
    input: Input | None = Field(
        default=None, description="What a command's data is made of; default: the event's data."
    )
    lookup: Annotated[dict[InputName, LookupRules], Field(min_length=1, max_length=10)] | None = (
        Field(
            default=None,
            examples=["{customer: {topic: shop.customer.profile, key: /customer}}"],
            description="Rows that input may use, as lookup.<name>.",
        )
    )
    lookup_waiting: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=100_000, description="Events of the flow that may wait for rows in one task."
    )
    split: Annotated[SplitRules, BeforeValidator(_split)] | None = Field(
        default=None,
        examples=["/items", "{at: /items, key: /sku, max: 100}"],
        description="The list of which each element is a command; default: the event is one.",
    )
    action: Action = Field(examples=["{kind: noop, …}"], description="The side effect.")
    fallback: Action | None = Field(
        default=None, description="What runs instead while the breaker is open."
    )
    group: GroupName = Field(
        default="actions", description="Flows of a group share partitions and retry topics."
    )
    partitions: Partitions | None = Field(
        default=None, description="Of the group; the largest that a flow asks for, else 8."
    )
    order: Literal["strict", "relaxed"] = Field(
        default="strict",
        description="strict: later commands of a key wait for a failing one; relaxed: they go on.",
    )
    delivery: Literal["at-least-once", "at-most-once"] = Field(
        default="at-least-once", description="What a crash while it runs leads to."
    )
    retry: Retry = Field(default=Retry(), description="How often, and how late.")
    former_waits: list[Duration] = Field(
        default=[],
        examples=["[1s, 2s]"],
        description="Waits of an earlier ladder whose topics are still read.",
    )
    draining: bool = Field(
        default=False,
        description="Whether events trigger it no more, while what they have triggered still runs.",
    )
    concurrency: Annotated[Concurrency, BeforeValidator(_concurrency)] = Field(
        default=Concurrency(max=16),
        examples=["16", "{max: 64, adaptive: true}"],
        description="Runs at once on one worker.",
    )
    target: TargetName | None = Field(
        default=None,
        description="Name of what is called, where flows share its rate and its breaker; default: "
        "the flow's own name.",
    )
    rate: Rate | None = Field(
        default=None, description="How fast the target may be called, by the whole fleet."
    )
    rate_per_key: Rate | None = Field(
        default=None, description="How fast commands of one key may run; other keys go on."
    )
    singleton: Literal["skip", "queue", "replace"] | None = Field(
        default=None,
        description="What becomes of a command while another one of its key runs, or waits to: "
        "skip: it is not run; queue: it waits, and whoever waited is not run; replace: the other "
        "one is cancelled.",
    )
    throttle: ThrottleRules | None = Field(
        default=None,
        examples=["{limit: 10, per: 1m}"],
        description="How many commands of a key may begin within a time; others wait.",
    )
    rate_limit: KeyLimitRules | None = Field(
        default=None,
        examples=["{limit: 1, per: 1h}"],
        description="How many commands of a key run, of those made within a time; others do not.",
    )
    cancel_on: Annotated[list[CancelOn], BeforeValidator(_list_of_topics)] = Field(
        default=[],
        examples=["shop.order.cancelled"],
        description="Events, as in on, that cancel what has not ended of the commands of their "
        "key that came before.",
    )
    breaker: BreakerRules = Field(
        default=BreakerRules(), description="When to leave a broken target alone."
    )
    parked_per_key: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=1_000, description="Commands of a key that may wait; then the partition pauses."
    )
    dead_letters: FlowLetters = Field(
        default=FlowLetters(), description="Where commands go that are given up."
    )
    replies: TargetName | None = Field(
        default=None,
        examples=["shop"],
        description="Requests may ask for the end of their command on the topic "
        "edo.replies.<name>, which flows may share.",
    )
    letters_max: Annotated[int, Field(ge=1)] = Field(
        default=100, description="Dead letters without successes at which the flow stops."
    )
