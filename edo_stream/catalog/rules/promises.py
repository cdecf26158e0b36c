"""Promises: only what code honours, and only what fits together."""

from math import ceil
from typing import Final

from edo_stream.catalog.case import Case
from edo_stream.registry.declaration import Deprecation
from edo_stream.registry.document import Place

#: What is honoured at each stage of delivery: by the producer, by the tasks, by the act plane.
HONOURED: Final[dict[str, frozenset[str]]] = {
    "produce": frozenset({"at-least-once", "effectively-once"}),
    "process": frozenset({"effectively-once"}),
    "act": frozenset({"at-least-once", "at-most-once"}),
}
#: Of one partition, with room to spare: a task does several times as many (docs/benchmarks.md).
PARTITION_EVENTS_PER_S: Final = 10_000
#: How long dead letters are kept.
_DEAD_LETTERS_DAYS: Final = 30
_DAY_MS: Final = 86_400_000


def find_broken_promises(case: Case) -> None:
    """A guarantee that no code keeps is worse than none."""
    delivery = case.declaration.delivery
    for stage, honoured in HONOURED.items():
        promised = getattr(delivery, stage)
        if promised is None or promised in honoured:
            continue
        able = " or ".join(sorted(honoured))
        advice = f"write {able}" if able else "leave it out"
        case.find(("delivery", stage), f"{promised} is not honoured by any code here: {advice}")
    if delivery.produce == "effectively-once" and case.declaration.dedupe is None:
        case.find(
            ("delivery", "produce"),
            "effectively-once needs dedupe, and it is off: a producer that tries again writes "
            "twice; write at-least-once, or a dedupe key",
        )


def find_missed_objectives(case: Case) -> None:
    """An objective that the contract's own waits cannot meet is none."""
    declaration = case.declaration
    slo = declaration.slo
    if slo is None:
        return
    place = ("slo", "trigger_to_ready")
    within = f"{seconds(slo.trigger_to_ready)} of trigger_to_ready"
    waits_ms = 0 if declaration.retry is None else sum(declaration.retry.waits_ms)
    if waits_ms > slo.trigger_to_ready:
        case.find(
            place,
            f"the retries wait {seconds(waits_ms)} in all, longer than the {within}: an event "
            "that succeeds at the last of them is late; write a longer one, or a shorter ladder",
        )
    ordering = declaration.ordering
    if ordering.policy == "sequence" and ordering.gap_timeout > slo.trigger_to_ready:
        case.find(
            place,
            f"a gap is waited for {seconds(ordering.gap_timeout)}, longer than the {within}: "
            "write a longer one, or a shorter gap_timeout",
        )
    rate = declaration.rate
    if rate is not None and rate.burst is not None:
        needed_s = rate.burst / (declaration.partitions * PARTITION_EVENTS_PER_S)
        if needed_s * 1_000 > slo.trigger_to_ready:
            partitions = ceil(rate.burst * 1_000 / slo.trigger_to_ready / PARTITION_EVENTS_PER_S)
            case.find(
                ("rate", "burst"),
                f"{rate.burst:,} events at once take {needed_s:,.1f} s at "
                f"{PARTITION_EVENTS_PER_S:,} a second and partition, longer than the {within}: "
                f"write partitions: {partitions}, or a longer objective",
            )


def find_odd_ladders(case: Case) -> None:
    """A ladder climbs, and ends after its first rung."""
    retry = case.declaration.retry
    if retry is None:
        return
    if retry.initial > retry.max:
        case.find(
            ("retry", "initial"),
            f"the first wait, {seconds(retry.initial)}, is longer than max, {seconds(retry.max)}: "
            "write a larger max",
        )
    if retry.total is not None and retry.total < retry.initial:
        case.find(
            ("retry", "total"),
            f"nothing is tried again after {seconds(retry.total)}, and the first wait is "
            f"{seconds(retry.initial)}: write a longer total, or retry: off",
        )


def find_late_acknowledgements(case: Case) -> None:
    """A dead letter must still be there when its owner has to have seen it."""
    within = case.declaration.dead_letters.acknowledge_within
    if within is not None and within > _DEAD_LETTERS_DAYS * _DAY_MS:
        case.find(
            ("dead_letters", "acknowledge_within"),
            f"dead letters are kept {_DEAD_LETTERS_DAYS} days: write at most that",
        )


def find_odd_rates(case: Case) -> None:
    """A peak is above what is usual, and the partitions bear it."""
    rate = case.declaration.rate
    if rate is None:
        return
    peak = rate.peak or rate.expected
    if peak < rate.expected:
        case.find(
            ("rate", "peak"), f"{peak:g} is less than expected, {rate.expected:g}: write more"
        )
    needed = ceil(max(peak, rate.expected) / PARTITION_EVENTS_PER_S)
    if needed > case.declaration.partitions:
        case.find(
            ("partitions",),
            f"{case.declaration.partitions} partitions bear "
            f"{case.declaration.partitions * PARTITION_EVENTS_PER_S:,} events a second, and the "
            f"peak is {peak:,.0f}: write partitions: {needed}",
        )


def find_odd_sunsets(case: Case) -> None:
    """A sunset is announced, agreed on, and carried out."""
    declaration = case.declaration
    everybody = [consumer.name for consumer in declaration.consumers]
    if declaration.deprecation is not None:
        what = f"topic {declaration.name}"
        _find_odd_sunset(case, ("deprecation",), declaration.deprecation, what, everybody)
    for number, version in declaration.versions.items():
        if version.deprecation is None:
            continue
        readers = [
            consumer.name
            for consumer in declaration.consumers
            if consumer.versions is None or number in consumer.versions
        ]
        path = _version_path(case, number, "deprecation")
        _find_odd_sunset(case, path, version.deprecation, f"version {number}", readers)
        if version.deprecation.sunset is not None and number == max(declaration.versions):
            case.find(path, f"version {number} is the newest: deprecate the topic instead")


def _find_odd_sunset(
    case: Case, path: Place, deprecation: Deprecation, what: str, readers: list[str]
) -> None:
    for index, name in enumerate(deprecation.acknowledged):
        if name not in {consumer.name for consumer in case.declaration.consumers}:
            case.find(
                (*path, "acknowledged", index), f"{name} is no consumer: write one of consumers"
            )
    sunset = deprecation.sunset
    if sunset is None:
        return
    place = (*path, "sunset")
    if sunset < deprecation.since:
        case.find(place, f"{sunset} is before it is deprecated, {deprecation.since}")
    if sunset < case.today:
        case.find(
            place,
            f"{sunset} is in the past: remove {what} and what is left of it, or write a later day",
        )
    missing = [name for name in readers if name not in deprecation.acknowledged]
    if missing:
        case.find(
            place,
            f"not acknowledged by {', '.join(missing)}: the end of {what} needs each of its "
            "consumers in acknowledged",
        )


def find_endless_warnings(case: Case) -> None:
    """Warnings instead of dead letters are for adoption, and adoption ends."""
    schema = case.declaration.schema_
    if schema is None:
        return
    violations = schema.violations
    path = ("schema", "violations")
    if violations.policy == "warn" and violations.until is None:
        case.find(
            (*path, "policy"), "warn has no end: write until: with the last day, such as 2026-01-31"
        )
    if violations.policy == "dead-letter" and violations.until is not None:
        case.find((*path, "until"), "until means nothing with policy dead-letter: remove it")
    elif violations.until is not None and violations.until < case.today:
        case.find(
            (*path, "until"),
            f"{violations.until} is over, and violations are dead letters now: remove violations",
        )


def _version_path(case: Case, number: int, *rest: str) -> Place:
    """Where a version stands in the file, whichever way its number is written."""
    lines = case.entry.document.lines
    for name in (str(number), f"v{number}"):
        if ("schema", "versions", name) in lines:
            return ("schema", "versions", name, *rest)
    return ("schema", "versions", *rest)


def seconds(duration_ms: int) -> str:
    """A duration for people."""
    return f"{duration_ms / 1_000:g} s"
