"""Tells the log of dead letters: where they come from and why, never what is in them."""

import logging
from collections.abc import Container
from typing import Final

from edo_stream.core.accounts import Fate
from edo_stream.core.effects import Effects

log = logging.getLogger(__name__)

_DEAD: Final = Fate.DEAD_LETTERED.value


def log_dead_letters(group: str, effects: Effects, topics: Container[str]) -> None:
    """Write one line for each source and reason of a transaction, about the first of them.

    ``topics`` are those of dead letters: elsewhere a header of the same name is somebody's data.
    """
    if not any(fate == _DEAD for counts in (effects.counts, effects.settled) for _, fate in counts):
        return
    counts: dict[tuple[str, str], int] = {}
    firsts: dict[tuple[str, str], dict[str, str]] = {}
    for record in effects.publish:
        if record.topic not in topics:
            continue
        # Ours come last, whatever the record itself has brought along.
        headers = {
            name: (value or b"").decode("utf-8", "replace") for name, value in record.headers
        }
        place = (headers["edo-topic"], headers["edo-reason"])
        counts[place] = counts.get(place, 0) + 1
        firsts.setdefault(place, headers)
    for (topic, reason), count in counts.items():
        first = firsts[topic, reason]
        fields = {
            "group": group,
            "topic": topic,
            "partition": int(first["edo-partition"]),
            "offset": int(first["edo-offset"]),
            "event_id": first["edo-id"],
            "reason": reason,
            "count": count,
        }
        log.warning(
            "dead letters: %s-%d: %d for %s, the first of offset %d, id %s",
            topic,
            fields["partition"],
            count,
            reason,
            fields["offset"],
            fields["event_id"],
            extra=fields,
        )
