"""The keys whose commands have a tag: what an event cancels by another field than their key.

A flow may say that an event cancels by a field of its own events. Each command then has a *tag*,
the field and its value, and what cancels names one: it lies among the commands of every partition,
and ends those that have the tag and lie before it. Which keys have some is known in memory: of
commands in hand and parked ones they are counted; of a head on a tier that was not read, its row
says it.
"""

from collections.abc import Container, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from edo_stream.core.act.command import Command

TAGS: Final = "edo-tags"
"""Of a command: its values, by field, as JSON."""
CANCEL_TAG: Final = "edo-cancel-tag"
"""Of what cancels: a field and a value, as JSON."""

#: A longer value is known by its digest.
_VALUE_CHARS_MAX: Final = 200

_encode: Final = msgspec.json.Encoder().encode
_decode_tags: Final = msgspec.json.Decoder(dict[str, str]).decode
_decode_tag: Final = msgspec.json.Decoder(tuple[str, str]).decode


def encode_tags(values: dict[str, str]) -> bytes:
    """The header of a command."""
    return _encode({field: _short(value) for field, value in values.items()})


def encode_tag(field: str, value: str) -> bytes:
    """The header of what cancels."""
    return _encode((field, _short(value)))


def tags_of(flow: str, tags: bytes | None, tag: bytes | None) -> tuple[bytes, ...]:
    """Names of tags, within a task, of a command or of what cancels.

    Raises:
        ValueError: it is none of ours.
    """
    found = [*_decode_tags(tags).items()] if tags else []
    found += [_decode_tag(tag)] if tag else []
    return tuple(f"{flow}\0{field}\0{value}".encode() for field, value in found)


def _short(value: str) -> str:
    if len(value) <= _VALUE_CHARS_MAX:
        return value
    return f"sha256:{sha256(value.encode('utf-8', 'replace')).hexdigest()}"


class Tagged:
    """Of one task."""

    def __init__(self, flows: Container[str]) -> None:
        """Know the keys of flows that have such a field."""
        self._flows = flows
        self._held: dict[bytes, dict[bytes, int]] = {}
        """By tag: how many commands of each key are in hand, or parked."""
        self._away: dict[bytes, dict[bytes, None]] = {}
        """By tag: the keys whose head is on a tier, and not read yet."""
        self._tags: dict[bytes, Sequence[bytes]] = {}
        """Of those heads, by key."""

    def clear(self) -> None:
        """Forget all."""
        self._held.clear()
        self._away.clear()
        self._tags.clear()

    def hold(self, command: "Command") -> None:
        """It has come, or is parked since before."""
        for tag in self._of(command):
            queues = self._held.setdefault(tag, {})
            queues[command.queue] = queues.get(command.queue, 0) + 1

    def release(self, command: "Command") -> None:
        """It has its end, or goes to a tier."""
        for tag in self._of(command):
            queues = self._held[tag]
            queues[command.queue] -= 1
            if not queues[command.queue]:
                del queues[command.queue]
            if not queues:
                del self._held[tag]

    def send_away(self, queue: bytes, tags: Sequence[bytes]) -> None:
        """The head of a key is on a tier."""
        self.bring_back(queue)
        if tags:
            self._tags[queue] = tags
        for tag in tags:
            self._away.setdefault(tag, {})[queue] = None

    def bring_back(self, queue: bytes) -> None:
        """The head of a key was read again."""
        for tag in self._tags.pop(queue, ()):
            del self._away[tag][queue]
            if not self._away[tag]:
                del self._away[tag]

    def queues(self, tag: bytes) -> list[bytes]:
        """The keys that have a command with a tag."""
        return [*dict.fromkeys((*self._held.get(tag, ()), *self._away.get(tag, ())))]

    def _of(self, command: "Command") -> Sequence[bytes]:
        return command.tags if command.flow in self._flows else ()
