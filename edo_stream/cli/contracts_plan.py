"""What has to be done at the broker, and what must not be done unasked: a comparison, no I/O.

A step is *safe* (create, widen a limit, keep for longer), needs *consent* (growing partitions moves
keys; a shorter retention or another cleanup deletes records), or is *impossible* (Kafka takes no
partitions away, and replicas are moved by its own tools).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from edo_stream.cli.publish import REGISTRY
from edo_stream.engine.admin import Wanted
from edo_stream.gateway.declaration import Refused
from edo_stream.observe.dead_letters import ACKS
from edo_stream.registry.names import INTERNAL_PREFIX

_CLEANUP: Final = "cleanup.policy"
_RETENTION: Final = "retention.ms"
_FOR_EVER: Final = -1
#: Topics that commands and the gateway create when they first write to them.
_MADE_ON_USE: Final = frozenset({REGISTRY, ACKS, Refused().topic})

WHAT_A_GROWTH_BREAKS: Final = (
    "most keys move to another partition. Events of a key that are in the old partition are not "
    "in order with those in the new one; a duplicate of an old id passes in the new one; what is "
    "held for a gap, and the number that is awaited, stay behind. Let the workers read to the end, "
    "stop them and the producers, grow, and start them again"
)


class Action(Enum):
    """What a step does."""

    CREATE = "create"
    GROW = "grow"
    CONFIGURE = "configure"
    DELETE = "delete"
    NONE = "differs"


class Consent(Enum):
    """What a step needs before it is done."""

    SAFE = "safe"
    RESHUFFLE = "--allow-reshuffle"
    LOSS = "--allow-loss"
    NAMED = "--delete"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True)
class Seen:
    """A topic as it is at the broker."""

    partitions: int
    replication: int
    config: Mapping[str, str]
    """Effective values, by Kafka's names."""
    overrides: Mapping[str, str]
    """Those that were set for this topic."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, or to be told of."""

    topic: str
    action: Action
    consent: Consent
    detail: str
    config: tuple[tuple[str, str], ...] = ()
    """For ``CONFIGURE``: what to set."""


def steps(wanted: Sequence[Wanted], seen: Mapping[str, Seen]) -> list[Step]:
    """Everything that differs, in the order in which it is to be done."""
    found: list[Step] = []
    for topic in sorted(wanted, key=lambda one: one.name):
        present = seen.get(topic.name)
        if present is None:
            found.append(Step(topic.name, Action.CREATE, Consent.SAFE, _shape(topic)))
            continue
        found += _partitions(topic, present)
        if present.replication != topic.replication:
            detail = (
                f"has {present.replication} replicas, wanted are {topic.replication}: move them "
                "with kafka-reassign-partitions"
            )
            found.append(Step(topic.name, Action.NONE, Consent.IMPOSSIBLE, detail))
        found += _config(topic, present)
    return found


def undeclared(wanted: Iterable[Wanted], seen: Iterable[str], domains: Iterable[str]) -> list[str]:
    """Topics of our domains that no contract declares; others' topics are theirs."""
    known = {topic.name for topic in wanted} | _MADE_ON_USE
    ours = {f"{domain}." for domain in domains} | {INTERNAL_PREFIX}
    return sorted(
        name
        for name in seen
        if name not in known and any(name.startswith(prefix) for prefix in ours)
    )


def deletions(names: Iterable[str], wanted: Iterable[Wanted], seen: Iterable[str]) -> list[Step]:
    """Topics that somebody asks to delete; never one that a contract wants."""
    known, there = {topic.name for topic in wanted}, set(seen)
    found = []
    for name in names:
        if name in known:
            detail = "a contract wants it: remove the contract first"
            found.append(Step(name, Action.NONE, Consent.IMPOSSIBLE, detail))
        elif name not in there:
            found.append(Step(name, Action.NONE, Consent.IMPOSSIBLE, "is not at the broker"))
        else:
            found.append(Step(name, Action.DELETE, Consent.NAMED, "with all its records"))
    return found


def _shape(topic: Wanted) -> str:
    config = ", ".join(f"{name}={value}" for name, value in sorted(topic.config.items()))
    return f"{topic.partitions} partitions, {topic.replication} replicas, {config}"


def _partitions(topic: Wanted, present: Seen) -> list[Step]:
    if present.partitions == topic.partitions:
        return []
    detail = f"has {present.partitions} partitions, {topic.why} wants {topic.partitions}"
    if present.partitions > topic.partitions:
        detail += ": Kafka takes none away; write the number that is there, or another topic"
        return [Step(topic.name, Action.NONE, Consent.IMPOSSIBLE, detail)]
    return [Step(topic.name, Action.GROW, Consent.RESHUFFLE, detail)]


def _config(topic: Wanted, present: Seen) -> list[Step]:
    safe: list[tuple[str, str]] = []
    lossy: list[tuple[str, str]] = []
    for name, value in sorted(topic.config.items()):
        was = present.config.get(name)
        if was is None or _same(name, was, value):
            continue
        (lossy if _loses(name, was, value) else safe).append((name, value))
    found = []
    for pairs, consent in ((safe, Consent.SAFE), (lossy, Consent.LOSS)):
        if pairs:
            detail = ", ".join(f"{name} {present.config[name]} → {new}" for name, new in pairs)
            if consent is Consent.LOSS:
                detail += ": records that are there are deleted"
            found.append(Step(topic.name, Action.CONFIGURE, consent, detail, tuple(pairs)))
    return found


def _same(name: str, was: str, value: str) -> bool:
    if name == _CLEANUP:
        return set(was.split(",")) == set(value.split(","))
    if was == value:
        return True
    try:
        return float(was) == float(value)
    except ValueError:
        return False


def _loses(name: str, was: str, value: str) -> bool:
    """Whether records that are kept now would be deleted."""
    if name == _CLEANUP:
        return True
    if name != _RETENTION or int(was) == int(value):
        return False
    return int(was) == _FOR_EVER or (int(value) != _FOR_EVER and int(value) < int(was))
