"""Names: of the topic itself, and of the topics, services and versions that it points to."""

from collections.abc import Iterable

from edo_stream.catalog.case import Case
from edo_stream.catalog.tense import begins_past, is_past
from edo_stream.registry.mistakes import nearest


def find_wrong_tense(case: Case) -> None:
    """An event is named as a fact, a command as a request; names of others are theirs."""
    declaration = case.declaration
    name = declaration.name
    if declaration.codec != "cloudevents" or declaration.source is not None:
        return
    last = name.rpartition(".")[2]
    if declaration.kind == "event" and not is_past(name):
        case.find(
            ("name",),
            f"{last} is not in the past tense, and an event is a fact: write what happened, such "
            "as placed or payment-received; if it is a request, write kind: command",
        )
    if declaration.kind == "command" and begins_past(name):
        case.find(
            ("kind",),
            f"{last} is in the past tense, and a command is a request: write what to do, such as "
            "place or send-invoice; if it is a fact, write kind: event",
        )


def find_unknown_topics(case: Case) -> None:
    """Related topics and replacements are declared, or somebody's results."""
    declaration = case.declaration
    for index, related in enumerate(declaration.related):
        if related == declaration.name:
            case.find(("related", index), f"{related} is this topic: remove it")
        elif related not in case.names:
            case.find(
                ("related", index), f"{related} does not exist: {nearest(related, case.names)}"
            )
    deprecation = declaration.deprecation
    if deprecation is None or deprecation.replacement is None:
        return
    place = ("deprecation", "replacement")
    replacement = deprecation.replacement
    if replacement == declaration.name:
        case.find(place, f"{replacement} is this topic: write the one to use instead")
    elif replacement not in case.names:
        case.find(place, f"{replacement} does not exist: {nearest(replacement, case.names)}")
    elif replacement in case.entries and case.entries[replacement].declaration.deprecation:
        case.find(place, f"{replacement} is deprecated as well: write one that stays")


def find_repeated_names(case: Case) -> None:
    """A producer or consumer is listed once; a consumer group has one service."""
    declaration = case.declaration
    _find_repeated(case, "producers", [one.name for one in declaration.producers])
    _find_repeated(case, "consumers", [one.name for one in declaration.consumers])
    groups: dict[str, str] = {}
    for index, consumer in enumerate(declaration.consumers):
        if consumer.group is None:
            continue
        first = groups.setdefault(consumer.group, consumer.name)
        if first != consumer.name:
            case.find(
                ("consumers", index, "group"),
                f"{consumer.group} is the group of {first}: two services in one group share the "
                "partitions, and each misses what the other reads; write a group of its own",
            )


def _find_repeated(case: Case, key: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            case.find((key, index), f"{name} is listed twice: keep one of them")
        seen.add(name)
