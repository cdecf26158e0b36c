"""What ``when`` of a ``flows/<name>.yaml`` may say: what a flow waits for before it starts."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from edo_stream.core.contract import DAY_MS
from edo_stream.registry.declaration import Declared, Partitions
from edo_stream.registry.names import GroupName, Place, Text, TopicName, is_pointer
from edo_stream.registry.quantity import Duration, Size

#: That an event may be in: each is a result of its own, and a batch may have to fire all of them.
WINDOWS_MAX: Final = 10_000
_INPUT: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_FUNCTIONS: Final = ("sum", "min", "max", "avg", "first", "last", "distinct", "count")
_ATTRIBUTE: Final = re.compile(r"[a-z][a-z0-9]{0,19}")
_EXPECT_MAX: Final = 1_000_000
_RESERVED: Final = ("manifest", "fallback")


def _input_name(value: object) -> str:
    if not isinstance(value, str) or not _INPUT.fullmatch(value) or value in _RESERVED:
        raise ValueError(
            f"{value} is not an input's name: write lower-case letters, digits and _, "
            f"and none of {', '.join(_RESERVED)}"
        )
    return value


def _expression(value: object) -> str:
    try:
        if isinstance(value, str) and value:
            re.compile(value)
            return value
    except re.error as error:
        raise ValueError(f"{value} is not a regular expression: {error}") from None
    raise ValueError(f"{value} is not a regular expression")


def _aggregate(value: object) -> object:
    if value == "count":
        return value
    if isinstance(value, dict) and len(value) == 1:
        ((function, pointer),) = value.items()
        is_pointer = isinstance(pointer, str) and pointer.startswith("/")
        if function in _FUNCTIONS and is_pointer:
            return value
    raise ValueError(
        f"{value} is not an aggregate: write count, or a function and a JSON pointer such as "
        f"{{sum: /total}}; functions are {', '.join(_FUNCTIONS)}"
    )


def _expected(value: object) -> object:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if is_number and 1 <= int(str(value)) <= _EXPECT_MAX:
        return value
    if isinstance(value, str) and (is_pointer(value) or _ATTRIBUTE.fullmatch(value)):
        return value
    raise ValueError(
        f"{value} is not how many: write a number from 1 to {_EXPECT_MAX}, or where each event "
        "says it, such as splitcount or /lines"
    )


Expected = Annotated[int | str, BeforeValidator(_expected)]
InputName = Annotated[str, BeforeValidator(_input_name)]
Expression = Annotated[str, BeforeValidator(_expression)]
AggregateText = Annotated[Any, BeforeValidator(_aggregate)]


class JoinInput(Declared):
    topic: TopicName = Field(examples=["shop.order.placed"], description="A topic with a contract.")
    match: dict[str, Any] | None = Field(
        default=None,
        examples=["{data: {status: [paid]}}"],
        description="A pattern over the whole event, as Amazon EventBridge has them.",
    )
    where: Annotated[str, Field(min_length=1, max_length=10_000)] | None = Field(
        default=None,
        examples=["data.total > data.limit"],
        description="An expression in CEL that must be true, where a pattern is not enough.",
    )
    key: Place | None = Field(
        default=None,
        examples=["/order/id"],
        description="What belongs together has the same of it: record, an attribute, or a JSON "
        "pointer into the data; default: the event's own key.",
    )
    key_match: Expression | None = Field(
        default=None,
        examples=["[0-9]{4}-[0-9]{2}-[0-9]{2}"],
        description="What of the key counts: the first group of a regular expression, or all "
        "that it matches.",
    )
    key_days: Annotated[int, Field(ge=-36_500, le=36_500)] | None = Field(
        default=None,
        examples=[-1],
        description="The key begins with a date: this many days are added, the rest is left out.",
    )
    member: Place | None = Field(
        default=None,
        examples=["/region"],
        description="Of a set: which member the event is of. Of a count: events with the same "
        "of it count once.",
    )
    member_match: Expression | None = Field(
        default=None, description="What of the member counts, as of the key."
    )


class Manifest(JoinInput):
    from_: Place = Field(
        alias="from",
        examples=["/files"],
        description="Where it says how many events there are, or lists the members: a JSON "
        "pointer, or an attribute.",
    )


class Absence(Declared):
    after: Annotated[dict[InputName, JoinInput], Field(min_length=1, max_length=1)] = Field(
        examples=["{order: {topic: shop.order.placed}}"], description="What is followed, or not."
    )
    without: Annotated[dict[InputName, JoinInput], Field(min_length=1, max_length=1)] = Field(
        examples=["{payment: {topic: shop.payment.received}}"],
        description="What must not follow it in time.",
    )


class Sliding(Declared):
    size: Duration = Field(examples=["1h"], description="How long a window is.")
    every: Duration = Field(
        examples=["10m"],
        description="How far apart windows begin; size is a multiple of it, at most "
        f"{WINDOWS_MAX} times.",
    )


class WaitBounds(Declared):
    waits: Annotated[int, Field(ge=1, le=100_000_000)] = Field(
        default=1_000_000, description="Waits that are open in one task."
    )
    events: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=10_000, description="Events of one wait."
    )
    bytes: Size = Field(default=512 * 1024, description="Bytes of the events of one wait.")


_Inputs = Annotated[dict[InputName, JoinInput], Field(min_length=1, max_length=100)]


class When(Declared):
    """What a flow waits for; one of the kinds, and what holds for all of them."""

    all: _Inputs | None = Field(
        default=None,
        examples=["{order: {topic: shop.order.placed}, payment: {topic: shop.payment.received}}"],
        description="An event of each input.",
    )
    any: _Inputs | None = Field(default=None, description="An event of any input.")
    some: _Inputs | None = Field(default=None, description="Events of n of the inputs.")
    n: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Of some: how many.")
    count: _Inputs | None = Field(default=None, description="A number of events.")
    expect: Expected | None = Field(
        default=None,
        examples=[24, "splitcount"],
        description="Of a count: how many, or where each event says it; or a manifest says it.",
    )
    gather: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        examples=["ask-carrier"],
        description="A flow that splits: the ends of all commands of one event.",
    )
    failed: Literal["partial", "failure", "wait"] = Field(
        default="partial",
        description="Of gather: with commands that have failed, a result that says so, an event "
        "among the outcomes, or none before they were sent again and have succeeded.",
    )
    set: _Inputs | None = Field(default=None, description="An event of each member of a list.")
    members: Annotated[list[Text], Field(min_length=1, max_length=10_000)] | None = Field(
        default=None,
        examples=["[eu, us, apac]"],
        description="Of a set: which; or a manifest lists them.",
    )
    manifest: Manifest | None = Field(
        default=None, description="The event that says how many there are, or which."
    )
    sequence: _Inputs | None = Field(
        default=None, description="An event of each input, in this order."
    )
    absence: Absence | None = Field(default=None, description="An event that none follows in time.")
    window: _Inputs | None = Field(default=None, description="All events of a window.")
    tumbling: Duration | None = Field(
        default=None, examples=["1h"], description="Windows that follow each other."
    )
    sliding: Sliding | None = Field(default=None, description="Windows that overlap.")
    session: Duration | None = Field(
        default=None, examples=["30m"], description="Windows that end with so long a pause."
    )
    aggregate: dict[Text, AggregateText] = Field(
        default={},
        examples=["{orders: count, revenue: {sum: /total}}"],
        description="Of a window: what is made of its events.",
    )
    collect: bool = Field(
        default=True, description="Of a window: whether the result has its events."
    )
    within: Duration | None = Field(
        default=None,
        examples=["1d"],
        description="From the first event to the deadline; of a session, its greatest length.",
    )
    grace: Duration = Field(
        default=0, description="How long after a deadline events from before it are waited for."
    )
    clock: Literal["arrival", "event"] = Field(
        default="arrival",
        description="arrival: times of records, as Kafka has them; event: times of events.",
    )
    on_timeout: Literal["partial", "fallback", "failure", "dead-letter", "drop"] | None = Field(
        default=None,
        description="At the deadline: a result of what is there, one of the fallback's type, an "
        "event among the outcomes, dead letters, or nothing; failure, of a sequence drop.",
    )
    fire: Literal["once", "each"] | None = Field(
        default=None,
        description="once a key, or each time that it is complete; each for sequence, absence "
        "and window, else once.",
    )
    late: Literal["new-run", "append", "drop", "dead-letter"] | None = Field(
        default=None,
        description="What comes after the end: opens the next wait, makes a result of its own, is "
        "counted, or a dead letter; with fire: each new-run, else and of a window drop.",
    )
    keep: Literal["first", "last"] = Field(
        default="last", description="Which event of an input or member stays."
    )
    opens: Annotated[list[InputName], Field(min_length=1)] | None = Field(
        default=None, description="Inputs that open a wait; default: each does."
    )
    look_back: Duration = Field(
        default=0,
        description="What does not open a wait counts if it came at most so long before.",
    )
    fallback: JoinInput | None = Field(
        default=None,
        description="An event that fires whatever there is, unless its key has fired.",
    )
    remember: Duration = Field(
        default=7 * DAY_MS, description="How long a key that is over is known."
    )
    history: bool = Field(
        default=False,
        description="Each change of a wait is an event on edo.waits.<flow>; edo waits show "
        "--history reads them.",
    )
    max: WaitBounds = Field(
        default=WaitBounds(), description="How much may wait; what is more is a dead letter."
    )
    group: GroupName = Field(
        default="joins", description="Flows of a group share tasks and an internal topic."
    )
    partitions: Partitions | None = Field(
        default=None, description="Of the group; the largest that a flow asks for, else 8."
    )


class Emit(Declared):
    topic: TopicName = Field(
        examples=["shop.order.ready"], description="A topic with a contract, of CloudEvents."
    )
    type: Text | None = Field(default=None, description="Their type; default: the topic's name.")
