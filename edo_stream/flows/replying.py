"""Where flows, and sagas, reply to requests."""

from typing import Final

from edo_stream.core.asked import Replies
from edo_stream.registry.names import INTERNAL_PREFIX

REPLY_PARTITIONS: Final = 8
"""Of each topic of replies, whichever flows write to it."""


def replies_topic(name: str) -> str:
    """Topic on which flows reply."""
    return f"{INTERNAL_PREFIX}replies.{name}"


def name_of(topic: str) -> str:
    """What files say of a topic of replies."""
    return topic.removeprefix(replies_topic(""))


def replies_by(flow: str, name: str | None) -> Replies | None:
    """Where a flow replies that says ``replies: name``; ``None`` where it says nothing."""
    return None if name is None else Replies(flow, replies_topic(name), REPLY_PARTITIONS)
