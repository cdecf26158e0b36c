"""Dead letters of events that were to be in a command of many: sent again, they wait once more.

Such a letter has the event's data, its attributes, and as its key that of the flow; so the event
goes to the topic that the flow's tasks read, as the task of its own topic wrote it there. Letters
of events that never came so far, because no key could be read, have a cause (``ce_causationid``).
"""

import msgspec

from edo_stream.core.correlation.joined import Joined, encode_joined
from edo_stream.core.partitioner import partition_of
from edo_stream.flows import Flows
from edo_stream.flows.correlation import COMBINED
from edo_stream.observe.dead_letters import Letter
from edo_stream.sources.attributes import time_ms

Place = tuple[str, int, bytes]
"""Topic and partition, and the record's value."""


def joined_again(letter: Letter, flows: Flows) -> Place | None:
    """The record that brings an event to its flow again; ``None``: it is another kind of letter."""
    join = flows.joins.get(letter.flow or "")
    said = {name: (value or b"").decode("utf-8", "replace") for name, value in letter.headers}
    if join is None or join.word == "when" or "ce_causationid" in said:
        return None
    if letter.is_reference or letter.key is None or "edo-position" not in said:
        return None
    time = said.get("ce_time")
    joined = Joined(
        flow=join.flow,
        input=COMBINED,
        id=said.get("ce_id", ""),
        source=said.get("ce_source", ""),
        type=said.get("ce_type", ""),
        position=said["edo-position"],
        data=letter.value,
        is_json=_is_json(letter.value),
        time_ms=None if time is None else time_ms("ce_time", time.encode()),
        subject=said.get("ce_subject"),
        correlation_id=said.get("ce_correlationid"),
        content_type=said.get("content-type"),
    )
    group = flows.join_groups[join.when.group]
    partition = partition_of(letter.key, group.partitions)
    return group.spec.topic, partition, encode_joined(joined)


def _is_json(data: bytes | None) -> bool:
    try:
        msgspec.json.decode(data or b"")
    except (ValueError, RecursionError):
        return False
    return True
