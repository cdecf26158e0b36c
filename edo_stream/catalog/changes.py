"""Changes of a contract, and which of them break somebody: by key of the file.

A key that is not listed in :data:`RULES` may change freely; its change is listed all the same.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from edo_stream.registry.quantity import duration_ms, size_bytes

_ORDER: Final = ("none", "key", "monotonic", "sequence", "transaction")
_DELIVERED: Final = ("at-most-once", "at-least-once", "effectively-once")
_COMPARED: Final = ("BACKWARD", "FORWARD")


@dataclass(frozen=True, slots=True)
class Change:
    """One value that is not what it was."""

    path: str
    """Keys of the file, joined by dots; ``""`` is the whole topic."""
    before: Any
    after: Any
    breaks: str | None = None
    """What breaks, for a person; ``None`` when nothing does."""


Judgement = Callable[[Any, Any], str | None]
"""What breaks when a value becomes another; ``None``: nothing."""


def changes_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Compare two contracts as :func:`~.describe.described` gives them."""
    old, new = dict(_flat(before)), dict(_flat(after))
    found = []
    for path in {**old, **new}:
        was, now = old.get(path), new.get(path)
        # A key that is left out, and one with nothing in it, say the same.
        if (was or None) != (now or None) and path != "file":
            rule = RULES.get(path)
            found.append(Change(path, was, now, None if rule is None else rule(was, now)))
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and prefix + name != "fields":
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _always(text: str) -> Judgement:
    return lambda before, after: text


def _moved(text: str) -> Judgement:
    """Of what neither begins nor ends."""
    return lambda before, after: None if before is None or after is None else text


def _begun(text: str) -> Judgement:
    """Of what was there: that it begins breaks nobody."""
    return lambda before, after: None if before is None else text


def _weaker(order: tuple[str, ...], text: str) -> Judgement:
    def judge(before: Any, after: Any) -> str | None:
        if before not in order or after not in order:
            return text if after is None else None
        return text if order.index(after) < order.index(before) else None

    return judge


def _shorter(text: str) -> Judgement:
    def judge(before: Any, after: Any) -> str | None:
        if before is None or after is None:
            return None
        return text if duration_ms(after) < duration_ms(before) else None

    return judge


def _longer(text: str) -> Judgement:
    shorter = _shorter(text)
    return lambda before, after: shorter(after, before)


def _smaller(text: str) -> Judgement:
    return lambda before, after: text if size_bytes(after) < size_bytes(before) else None


def _partitions(before: Any, after: Any) -> str | None:
    if before is None or after is None:
        return None
    if after < before:
        return "Kafka cannot take partitions away: a topic of another name is needed"
    return (
        "most keys move to another partition: what is in the old one is neither in order with "
        "what comes, nor known to its dedupe, sequences and held events"
    )


def _removed(what: str) -> Judgement:
    def judge(before: Any, after: Any) -> str | None:
        names = {_name(one) for one in after or ()}
        gone = [_name(one) for one in before or () if _name(one) not in names]
        return f"{', '.join(gone)} {what}" if gone else None

    return judge


def _name(one: Any) -> str:
    return str(one["name"]) if isinstance(one, Mapping) else str(one)


def _producers(before: Any, after: Any) -> str | None:
    # Whoever was not listed could write before there was a list.
    if not before and after:
        return "who is not listed may no longer write"
    return _removed("may no longer write")(before, after) if after else None


def _compatibility(before: Any, after: Any) -> str | None:
    """What the old mode promised and the new one does not."""
    if before is None or after is None:
        return None
    lost = [name for name in _COMPARED if _keeps(before, name) and not _keeps(after, name)]
    if lost:
        return f"{' and '.join(lost)} is no longer promised"
    if before.endswith("_TRANSITIVE") and not after.endswith("_TRANSITIVE"):
        return "versions before the last one no longer count"
    return None


def _keeps(mode: str, direction: str) -> bool:
    return mode.startswith((direction, "FULL"))


_KEYS_MOVE: Final = "events of one key come to other partitions, or are ordered by something else"

RULES: Final[dict[str, Judgement]] = {
    "kind": _always("a fact is not a request: whoever reacts to one must not react to the other"),
    "codec": _always("readers cannot decode the records"),
    "partitions": _partitions,
    "group": _always("the tasks' state stays with the old group: ids, sequences and held events"),
    "retention": _shorter("records are deleted earlier: who is behind by more loses them"),
    "cleanup": _always("what is kept of the past is something else"),
    "record_bytes_max": _smaller("larger records, which could be written so far, are refused"),
    "key": _always(_KEYS_MOVE),
    "partition_key": _always(_KEYS_MOVE),
    "dedupe": lambda before, after: "duplicates pass" if after == "off" else None,
    "dedupe.key": _always("other events count as duplicates, and what was one may pass"),
    "dedupe.ttl": _shorter("duplicates that come later pass"),
    "ordering.policy": _weaker(_ORDER, "readers may see an order that could not be before"),
    "ordering.field": _moved("positions are read elsewhere, and do not continue the old ones"),
    "delivery.produce": _weaker(_DELIVERED, "less is promised"),
    "delivery.process": _weaker(_DELIVERED, "less is promised"),
    "delivery.act": _weaker(_DELIVERED, "less is promised"),
    "emit.topic": _begun("readers of the results get none where they look for them"),
    "emit.partitions": _partitions,
    "dead_letters.topic": _always("who triages the dead letters looks elsewhere"),
    "schema.format": _begun("readers cannot decode the data"),
    "schema.compatibility": _compatibility,
    "schema.wire": _moved("readers cannot decode the data"),
    "slo.trigger_to_ready": _longer("results may come later than promised"),
    "producers": _producers,
}
