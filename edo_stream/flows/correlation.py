"""From what a flow waits for, as declared, to the words of the core; each mistake at its line."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from edo_stream.core.contract import DAY_MS, Codec
from edo_stream.core.correlation.ends import RESULTS, SPLIT, EndFeed
from edo_stream.core.correlation.feed import JoinTrigger, ValueOf
from edo_stream.core.correlation.spec import (
    Absent,
    Aggregate,
    Batched,
    Bounds,
    Clock,
    Correlation,
    Counted,
    Debounced,
    Fire,
    Function,
    JoinSpec,
    Keep,
    Kind,
    Members,
    Named,
    OnFailed,
    OnLate,
    OnTimeout,
    Ordered,
    Target,
    Windowed,
)
from edo_stream.core.facts import Make
from edo_stream.core.pointer import parse_pointer
from edo_stream.core.routing import Condition, Route
from edo_stream.core.trigger import FlowTrigger
from edo_stream.flows.combine import Batch, Combine, Debounce
from edo_stream.flows.conditions import condition_of
from edo_stream.flows.declaration import FlowName, TargetName
from edo_stream.flows.replying import replies_by
from edo_stream.flows.when import WINDOWS_MAX, Emit, JoinInput, Manifest, When
from edo_stream.registry import Registry
from edo_stream.registry.declaration import Declared
from edo_stream.registry.document import Document, Place
from edo_stream.registry.mistakes import nearest
from edo_stream.registry.names import INTERNAL_PREFIX, Text
from edo_stream.registry.quantity import duration_text

_PARTITIONS: Final = 8
_MANIFEST: Final = "manifest"
_FALLBACK: Final = "fallback"
_WHEN: Final = "when"
_KINDS: Final = ("all", "any", "some", "count", "set", "sequence", "absence", "window", "gather")
_EACH: Final = ("sequence", "absence", "window")
#: Keys that only some kinds have, and which.
_OF_KINDS: Final = {
    "n": ("some",),
    "expect": ("count",),
    "failed": ("gather",),
    "members": ("set",),
    "manifest": ("count", "set"),
    "tumbling": ("window",),
    "sliding": ("window",),
    "session": ("window",),
    "aggregate": ("window",),
    "collect": ("window",),
    "keep": ("all", "any", "some", "count", "set", "gather"),
    "opens": ("all", "some", "count", "set"),
    "fallback": ("all", "any", "some", "count", "set"),
    "on_timeout": ("all", "any", "some", "count", "set", "sequence", "gather"),
}
JOINS_PREFIX: Final = f"{INTERNAL_PREFIX}joins."
#: Of what a topic takes: what a record of ours has besides the events.
_ENVELOPE_BYTES: Final = 16 * 1024
_HEADROOM_BYTES: Final = 64 * 1024
#: An event in a history may be in Base64, and repeats what a manifest lists.
_HISTORY_FACTOR: Final = 4
COMMAND_BYTES: Final = 1_048_576
COMBINED: Final = "event"
"""The only input of a flow that debounces or batches."""
#: A key that is at rest needs to be known for people only.
_COMBINED_KNOWN_MS: Final = DAY_MS // 24
_BURSTS_MAX: Final = 16


class ResultFlow(Declared):
    """A flow that ends in an event: it waits, and runs nothing."""

    name: FlowName = Field(examples=["order-ready"], description="Also the file's name.")
    owner: Text = Field(examples=["team-shipping"], description="Who is asked about it.")
    description: Text = Field(examples=["Orders that are paid."], description="What it does.")
    when: When = Field(examples=["{all: {…}, within: 1d}"], description="What it waits for.")
    emit: Emit = Field(examples=["{topic: shop.order.ready}"], description="Where results go.")
    replies: TargetName | None = Field(
        default=None,
        examples=["shop"],
        description="Requests among the events may ask for the result on the topic "
        "edo.replies.<name>, which flows may share.",
    )


@dataclass(frozen=True, slots=True)
class JoinSource:
    """An input, compiled."""

    name: str
    topic: str
    partitions: int
    """Of the topic."""
    conditions: tuple[Condition, ...]
    key: ValueOf
    member: ValueOf | None
    expect: ValueOf | None
    is_list: bool
    bytes_max: int
    """What the topic takes."""


@dataclass(frozen=True, slots=True)
class Join:
    """What one flow waits for, compiled; where its firings go is known with all flows."""

    flow: str
    owner: str
    when: When | Combine
    """What the file says: what is waited for, or how events of a key become one command."""
    kind: Kind
    sources: tuple[JoinSource, ...]
    emit: Target | None
    """Where results go; ``None``: to the flow's commands."""
    file: Path
    make: Make | None = None
    """What makes the data of commands of many events."""
    replies: str | None = None
    """Name by which it replies to requests, if it does."""

    @property
    def word(self) -> str:
        """The key of the file that says it."""
        match self.when:
            case Debounce():
                return "debounce"
            case Batch():
                return "batch"
            case _:
                return _WHEN

    @property
    def bytes_max(self) -> int:
        """What a result has at most."""
        held = self.when.max.bytes if isinstance(self.when, When) else COMMAND_BYTES
        return held + _ENVELOPE_BYTES

    @property
    def gathers(self) -> str | None:
        """The flow whose commands' ends it gathers, if it does."""
        return self.when.gather if isinstance(self.when, When) else None


@dataclass(frozen=True, slots=True)
class JoinGroup:
    """Flows whose waits share tasks."""

    name: str
    partitions: int
    spec: JoinSpec
    dead_letters: str
    """For what is no event of any flow."""
    bytes_max: int
    """What the internal topic takes."""
    own_topics: tuple[str, ...]
    """Outcomes and dead letters of flows that have no commands."""
    histories: tuple[str, ...] = ()
    """Topics of the changes of waits."""
    history_bytes_max: int = 0

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics that its tasks read."""
        return (self.spec.topic,)


def joins_topic(group: str) -> str:
    """Internal topic to which events come by their correlation keys."""
    return f"{JOINS_PREFIX}{group}"


def inputs_of(when: When | Combine) -> dict[str, JoinInput]:
    """The inputs of whatever kind it is, by name and in order; none if it is none."""
    if not isinstance(when, When):
        return {}
    if when.absence is not None:
        return {**when.absence.after, **when.absence.without}
    if when.gather is not None:
        return {}
    return next((found for kind in _KINDS if (found := getattr(when, kind)) is not None), {})


def extra_inputs_of(when: When) -> dict[str, JoinInput]:
    """What a flow takes besides its inputs: its manifest and its fallback, by their names."""
    named = ((name, getattr(when, name)) for name in (_MANIFEST, _FALLBACK))
    return {name: given for name, given in named if given is not None}


def join_of(
    document: Document, declared: tuple[str, str, When, Emit | None], registry: Registry
) -> Join:
    """Compile what a flow waits for: ``declared`` is its name, owner, ``when`` and ``emit``.

    Mistakes are found in the document; with any, the result is not to be used.
    """
    flow, owner, when, emit = declared
    kinds = [kind for kind in _KINDS if getattr(when, kind) is not None]
    if len(kinds) != 1:
        told = "several" if kinds else "none"
        document.find((_WHEN,), f"when: expected one of {', '.join(_KINDS)}, found {told}")
    kind = kinds[0] if kinds else ""
    _check_keys(document, when, kind)
    _check_times(document, when, kind)
    _check_sense(document, when, kind)
    named: dict[str, tuple[Place, JoinInput]] = {
        name: ((_WHEN, kind, name), given) for name, given in inputs_of(when).items()
    }
    if kind == "absence":
        named = {
            name: ((_WHEN, kind, part, name), given)
            for part in ("after", "without")
            for name, given in getattr(when.absence, part).items()
        }
        if len(named) == 1:
            document.find((_WHEN, kind), "absence: its two inputs need two names")
    named |= {name: ((_WHEN, name), given) for name, given in extra_inputs_of(when).items()}
    sources = [
        _source(document, (name, place, given), when, registry)
        for name, (place, given) in named.items()
    ]
    if emit is None and when.max.bytes + _ENVELOPE_BYTES > COMMAND_BYTES:
        message = (
            "max.bytes: a command has at most 1 MiB: lower it, or emit to a topic that takes more"
        )
        document.find((_WHEN, "max", "bytes"), message)
    return Join(
        flow=flow,
        owner=owner,
        when=when,
        kind=_kind(when, kind),
        sources=tuple(sources),
        emit=None if emit is None else _target(document, emit, when, registry),
        file=document.file,
    )


def _check_keys(document: Document, when: When, kind: str) -> None:
    """Find what is missing of a kind, and what is of another one."""
    given = when.model_fields_set
    for name, kinds in _OF_KINDS.items():
        if name in given and kind and kind not in kinds:
            document.find((_WHEN, name), f"{name} is not of {kind}, but of {' and '.join(kinds)}")
    windows = [name for name in ("tumbling", "sliding", "session") if name in given]
    inputs = inputs_of(when)
    problems = {
        "some": (when.n is None or when.n > len(inputs), "n", f"a number up to {len(inputs)}"),
        "count": (
            (when.expect is None) == (when.manifest is None),
            "expect",
            "a number such as 24, or else manifest",
        ),
        "set": (
            (when.members is None) == (when.manifest is None),
            "members",
            "a list such as [eu, us], or else manifest",
        ),
        "window": (len(windows) != 1, "tumbling", "one of tumbling, sliding and session"),
    }
    if kind in problems and problems[kind][0]:
        _, name, what = problems[kind]
        document.find((_WHEN, name), f"{name}: {kind} needs {what}")
    for name in when.opens or ():
        if name not in inputs:
            document.find((_WHEN, "opens"), f"opens: no input {name}: {nearest(name, inputs)}")
    for name, one in inputs.items():
        if kind == "set" and one.member is None:
            message = f"member is missing in {name}: which member is an event of?"
            document.find((_WHEN, kind, name), message)


def _check_sense(document: Document, when: When, kind: str) -> None:
    """Find what would be of no effect, and what could never be complete."""
    if kind == "window" and when.fire == "once":
        document.find((_WHEN, "fire"), "fire: a window fires each time that one ends: leave it out")
    if when.look_back and kind != "absence" and when.opens is None:
        message = "look_back: each input opens a wait: say by opens which ones do"
        document.find((_WHEN, "look_back"), message)
    inputs = inputs_of(when)
    needed = {
        "all": len(inputs),
        "some": when.n or 0,
        "count": when.expect if isinstance(when.expect, int) else 0,
        "set": len(set(when.members or ())),
        "sequence": len(inputs),
    }.get(kind, 0)
    if needed > when.max.events:
        message = f"max.events: {kind} needs {needed} events, and {when.max.events} may wait"
        document.find((_WHEN,), message)


def _check_times(document: Document, when: When, kind: str) -> None:
    if kind == "window":
        _check_window(document, when)
    elif kind and when.within is None:
        document.find((_WHEN,), "within is missing: a wait must end; write for instance within: 1d")
    elif kind and kind != "any" and not when.within:
        # What any event completes never comes to its deadline.
        message = "within is 0ms: a wait would end as it begins: write for instance within: 1d"
        document.find((_WHEN, "within"), message)


def _check_window(document: Document, when: When) -> None:
    sliding = when.sliding
    if 0 in (when.tumbling, when.session) or (sliding is not None and not sliding.every):
        document.find((_WHEN,), "a window of 0ms holds nothing")
    elif sliding is not None and (sliding.size % sliding.every or not sliding.size):
        message = "sliding: size is a multiple of every"
        document.find((_WHEN, "sliding"), message)
    elif sliding is not None and sliding.size // sliding.every > WINDOWS_MAX:
        size, every = duration_text(sliding.size), duration_text(sliding.every)
        message = (
            f"sliding: expected size of at most {WINDOWS_MAX} times every, found {size} and "
            f"{every}: each event would be in {sliding.size // sliding.every} windows: raise every"
        )
        document.find((_WHEN, "sliding"), message)
    if when.late == "new-run" and sliding is not None:
        message = "late: a sliding window has no new run: write append, drop or dead-letter"
        document.find((_WHEN, "late"), message)
    if when.within is not None and when.session is None:
        document.find((_WHEN, "within"), "within is not of this window, but of a session")
    elif when.within == 0:
        message = "within is 0ms: a session of no length holds nothing: leave it out, or raise it"
        document.find((_WHEN, "within"), message)


def _source(
    document: Document, named: tuple[str, Place, JoinInput], when: When, registry: Registry
) -> JoinSource:
    name, place, given = named
    if given.topic not in registry.topics:
        message = f"no contract of {given.topic}: {nearest(given.topic, registry.topics)}"
        if given.topic in registry.entries:
            message = f"no worker reads {given.topic}: its contract has no emit"
        document.find((*place, "topic"), f"{name}: {message}")
    condition = condition_of(document, place, given)
    contract = registry.contracts.get(given.topic)
    member = None
    if given.member is not None and name not in (_MANIFEST, _FALLBACK):
        member = ValueOf(given.member, _compiled(given.member_match))
    expect = ValueOf(given.from_) if isinstance(given, Manifest) else None
    if isinstance(when.expect, str) and name != _FALLBACK:
        expect = ValueOf(when.expect)
    return JoinSource(
        name=name,
        topic=given.topic,
        partitions=1 if contract is None else contract.partitions,
        conditions=() if condition is None else (condition,),
        key=ValueOf(given.key, _compiled(given.key_match), given.key_days),
        member=member,
        expect=expect,
        is_list=when.set is not None,
        bytes_max=0 if contract is None else contract.record_bytes_max,
    )


def _compiled(expression: str | None) -> re.Pattern[str] | None:
    return None if expression is None else re.compile(expression)


def _kind(when: When, kind: str) -> Kind:  # noqa: PLR0911 - one for each kind
    inputs = inputs_of(when)
    manifest = "" if when.manifest is None else _MANIFEST
    match kind:
        case "count":
            return Counted(when.expect if isinstance(when.expect, int) else None, manifest)
        case "gather":
            return Counted(manifest=SPLIT, is_gathered=True)
        case "set":
            members = None if when.members is None else tuple(dict.fromkeys(when.members))
            return Members(members, manifest)
        case "sequence":
            return Ordered()
        case "absence" if len(inputs) > 1:
            after, without = inputs
            return Absent(after, without)
        case "window":
            return _windowed(when)
        case _:
            return Named({"any": 1, "some": when.n or 1}.get(kind, len(inputs)))


def combined(declared: Combine) -> Kind:
    """How events of a key become one command, in the words of the core."""
    if isinstance(declared, Debounce):
        return Debounced(declared.quiet, declared.max)
    return Batched(declared.count, declared.bytes, declared.after)


def _windowed(when: When) -> Windowed:
    sliding = when.sliding
    size_ms = (when.tumbling or 0) if sliding is None else sliding.size
    return Windowed(
        size_ms=size_ms,
        every_ms=size_ms if sliding is None else sliding.every,
        gap_ms=when.session or 0,
        session_max_ms=when.within or 0,
        aggregates={name: _aggregate(one) for name, one in when.aggregate.items()},
        collect=when.collect,
    )


def _aggregate(given: Any) -> Aggregate:
    if isinstance(given, str):
        return Aggregate(Function(given))
    ((function, pointer),) = given.items()
    return Aggregate(Function(function), parse_pointer(pointer))


def _target(document: Document, emit: Emit, when: When, registry: Registry) -> Target:
    entry, contract = registry.entries.get(emit.topic), registry.contracts.get(emit.topic)
    if entry is None:
        message = (
            f"emit.topic: no contract of {emit.topic}: {nearest(emit.topic, registry.entries)}"
        )
        document.find(("emit", "topic"), message)
    if contract is not None and contract.codec is not Codec.CLOUDEVENTS:
        message = f"emit.topic: {emit.topic} is read as {contract.codec.value}, not cloudevents"
        document.find(("emit", "topic"), message)
    bytes_max = COMMAND_BYTES if contract is None else contract.record_bytes_max
    if when.max.bytes + _ENVELOPE_BYTES > bytes_max:
        message = f"max.bytes: a result of so much does not fit {emit.topic}: lower it"
        document.find((_WHEN, "max", "bytes"), message)
    partitions = 1 if entry is None else entry.declaration.partitions
    return Target(emit.topic, partitions, emit.type or emit.topic, bytes_max=bytes_max)


def join_groups(
    joins: Iterable[Join], command_partitions: Mapping[str, int]
) -> dict[str, JoinGroup]:
    """Put correlations together with their groups; partitions of commands are by flow."""
    members: dict[str, list[Join]] = {}
    for join in joins:
        members.setdefault(join.when.group, []).append(join)
    return {name: _group(name, members[name], command_partitions) for name in sorted(members)}


def _group(name: str, joins: list[Join], command_partitions: Mapping[str, int]) -> JoinGroup:
    asked = [join.when.partitions for join in joins if join.when.partitions]
    partitions = max(asked, default=_PARTITIONS)
    upstream = {source.topic: source.partitions for join in joins for source in join.sources}
    correlations = {
        join.flow: correlation_of(join, command_partitions.get(join.flow), partitions)
        for join in joins
    }
    own = [
        topic
        for flow, correlation in correlations.items()
        if flow not in command_partitions
        for topic in (correlation.outcomes, correlation.dead_letters)
    ]
    bytes_max = _HEADROOM_BYTES + max(
        [s.bytes_max for join in joins for s in join.sources]
        + [COMMAND_BYTES for join in joins if join.gathers is not None],
        default=COMMAND_BYTES,
    )
    correlations = {
        # A flow that has commands shares the topics of their ends with them.
        flow: replace(
            one,
            ends_bytes_max=COMMAND_BYTES if flow in command_partitions else bytes_max,
            history_bytes_max=_HISTORY_FACTOR * bytes_max,
        )
        for flow, one in correlations.items()
    }
    return JoinGroup(
        name=name,
        partitions=partitions,
        spec=JoinSpec(
            joins_topic(name), partitions, correlations, tuple(upstream.items()), bytes_max
        ),
        dead_letters=f"{INTERNAL_PREFIX}dead-letters.{name}",
        bytes_max=bytes_max,
        own_topics=tuple(own),
        histories=tuple(one.history for one in correlations.values() if one.history),
        history_bytes_max=_HISTORY_FACTOR * bytes_max + _HEADROOM_BYTES,
    )


def _inputs(join: Join) -> tuple[str, ...]:
    if not isinstance(join.when, When):
        return (COMBINED,)
    return tuple(inputs_of(join.when)) if join.when.gather is None else (RESULTS,)


def correlation_of(join: Join, command_partitions: int | None, partitions: int) -> Correlation:
    """A correlation in the words of the core."""
    flow, when = join.flow, join.when
    target = join.emit or Target(
        f"{INTERNAL_PREFIX}commands.{flow}",
        command_partitions or 1,
        f"edo.{flow}.ready",
        is_command=True,
        bytes_max=COMMAND_BYTES,
        make=join.make,
    )
    common = Correlation(
        flow=flow,
        owner=join.owner,
        kind=join.kind,
        inputs=_inputs(join),
        target=target,
        outcomes=f"{INTERNAL_PREFIX}outcomes.{flow}",
        dead_letters=f"{INTERNAL_PREFIX}dead-letters.{flow}",
        partitions=command_partitions or partitions,
        replies=replies_by(flow, join.replies),
    )
    if not isinstance(when, When):
        return replace(
            common,
            fire=Fire.EACH,
            late=OnLate.NEW_RUN,
            remember_ms=_COMBINED_KNOWN_MS,
            bounds=Bounds(events_max=_BURSTS_MAX),
        )
    is_each = when.fire == "each" or (when.fire is None and _is_each(when))
    late = when.late or ("new-run" if is_each and when.window is None else "drop")
    on_timeout = when.on_timeout or ("drop" if when.sequence is not None else "failure")
    return replace(
        common,
        within_ms=DAY_MS if when.within is None else when.within,
        grace_ms=when.grace,
        clock=Clock(when.clock),
        on_timeout=OnTimeout(on_timeout),
        late=OnLate(late),
        fire=Fire.EACH if is_each else Fire.ONCE,
        keep=Keep(when.keep),
        failed=OnFailed(when.failed),
        remember_ms=when.remember,
        opens=frozenset(when.opens or ()),
        look_back_ms=when.look_back,
        fallback="" if when.fallback is None else _FALLBACK,
        bounds=Bounds(when.max.waits, when.max.events, when.max.bytes),
        history=f"{INTERNAL_PREFIX}waits.{flow}" if when.history else "",
    )


def _is_each(when: When) -> bool:
    return any(getattr(when, kind) is not None for kind in _EACH)


def ends_of(groups: Iterable[JoinGroup], joins: Iterable[Join]) -> dict[str, tuple[EndFeed, ...]]:
    """Who gathers how commands end, by the flow whose commands they are."""
    found: dict[str, tuple[EndFeed, ...]] = {}
    by_name = {group.name: group for group in groups}
    for join in joins:
        if join.gathers is not None:
            group = by_name[join.when.group]
            topic, replies = group.spec.topic, replies_by(join.flow, join.replies)
            feed = EndFeed(join.flow, topic, group.partitions, group.bytes_max, replies)
            found[join.gathers] = (*found.get(join.gathers, ()), feed)
    return found


def feeds(group: JoinGroup, joins: Iterable[Join], topic: str) -> list[Route]:
    """Routes by which events of a topic come to the correlations of a group."""
    return [
        Route(_trigger(group, join), source.conditions, _feed(group, join, source))
        for join in joins
        if join.when.group == group.name
        for source in join.sources
        if source.topic == topic
    ]


def _trigger(group: JoinGroup, join: Join) -> FlowTrigger:
    correlation = group.spec.correlations[join.flow]
    return FlowTrigger(
        flow=join.flow,
        commands=group.spec.topic,
        dead_letters=correlation.dead_letters,
        partitions=correlation.partitions,
        owner=join.owner,
        bytes_max=correlation.ends_bytes_max,
        replies=correlation.replies,
    )


def _feed(group: JoinGroup, join: Join, source: JoinSource) -> JoinTrigger:
    correlation = group.spec.correlations[join.flow]
    return JoinTrigger(
        flow=join.flow,
        input=source.name,
        topic=group.spec.topic,
        partitions=group.partitions,
        dead_letters=correlation.dead_letters,
        dead_letter_partitions=correlation.partitions,
        owner=join.owner,
        key=source.key,
        member=source.member,
        expect=source.expect,
        is_list=source.is_list,
        bytes_max=group.bytes_max,
        replies=correlation.replies,
        letters_bytes_max=correlation.ends_bytes_max,
    )
