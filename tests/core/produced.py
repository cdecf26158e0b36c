"""What a step wants produced, whichever way it is written."""

from itertools import chain
from typing import Any

from edo_stream.core.effects import Effects


def produced(effects: Effects, by_place: bool = False) -> list[Any]:
    """Records as tuples; by their places, if what is of no concern is how places take turns."""
    records = [*chain.from_iterable(one.records() for one in effects.wire), *effects.publish]
    found = [
        (one.topic, one.partition, one.key, one.value, list(one.headers), one.timestamp_ms)
        for one in records
    ]
    return sorted(found, key=lambda one: one[:2]) if by_place else found
