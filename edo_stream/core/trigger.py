"""What an event triggers: a command for each flow on its topic, in the event's own transaction."""

from dataclasses import dataclass
from typing import Final

from edo_stream.core.contract import Contract
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event, derive_id
from edo_stream.core.headers import SPECVERSION, WRITTEN, Header, time_text, utf8
from edo_stream.core.partitioner import partition_of
from edo_stream.core.pointer import parse_json, parse_pointer, resolve
from edo_stream.core.record import Record
from edo_stream.core.task import TaskIdentity

_OURS: Final = "edo-"
"""How headers begin that say how a command was tried; no event has a say in that."""


@dataclass(frozen=True, slots=True)
class FlowTrigger:
    """A flow on a topic: where its commands go, and what they are keyed by."""

    flow: str
    commands: str
    """Topic of its commands."""
    dead_letters: str
    """For events without a key."""
    partitions: int
    """Of both."""
    key: str | None = None
    """``None``: the event's key. Else ``record``, ``subject`` or a JSON pointer into the data."""


class Trigger:
    """A trigger within one task of its topic."""

    def __init__(self, identity: TaskIdentity, contract: Contract, trigger: FlowTrigger) -> None:
        self._identity = identity
        self._trigger = trigger
        self._place = (contract.topic, str(identity.partition))
        self._source = ("ce_source", utf8(f"/edo/{identity.app}"))
        self._flow = ("edo-flow", utf8(trigger.flow))
        key = trigger.key
        self._pointer = parse_pointer(key) if key is not None and key.startswith("/") else None

    def command(self, record: Record, event: Event, now_ms: int) -> Publish:
        """The command for an event; without a key, a dead letter of the flow."""
        trigger, offset = self._trigger, str(record.offset)
        key = self._key_of(record, event)
        command_id = derive_id("command", self._identity.app, trigger.flow, *self._place, offset)
        headers: list[Header] = [
            SPECVERSION,
            ("ce_id", command_id.encode()),
            self._source,
            ("ce_type", utf8(event.type)),
            ("ce_correlationid", utf8(event.correlation_id or event.id)),
            ("ce_causationid", utf8(event.id)),
            self._flow,
            ("edo-position", "/".join((*self._place, offset)).encode()),
        ]
        if event.subject is not None:
            headers.append(("ce_subject", utf8(event.subject)))
        if event.time_ms is not None and (time := time_text(event.time_ms)) is not None:
            headers.append(("ce_time", time))
        if event.content_type is not None:
            headers.append(("content-type", utf8(event.content_type)))
        headers += [
            header
            for header in event.extensions
            if header[0] not in WRITTEN and not header[0].startswith(_OURS)
        ]
        if key is None:
            headers += [
                ("edo-id", derive_id("dead-letter", command_id).encode()),
                ("edo-reason", b"no-key"),
                ("edo-class", b"poison"),
                ("edo-detail", utf8(f"key: expected {trigger.key} in the event, found none")),
                ("edo-attempts", b"0"),
                ("edo-app", utf8(self._identity.app)),
                ("edo-at", b"%d" % now_ms),
            ]
            partition = self._identity.partition % trigger.partitions
            return Publish(trigger.dead_letters, partition, event.key, event.data, headers, now_ms)
        partition = partition_of(key, trigger.partitions)
        return Publish(trigger.commands, partition, key, event.data, headers, now_ms)

    def _key_of(self, record: Record, event: Event) -> bytes | None:
        key = self._trigger.key
        if key is None:
            return event.key
        if key == "record":
            return record.key
        if key == "subject":
            return None if event.subject is None else utf8(event.subject)
        assert self._pointer is not None, "a key is record, subject or a pointer"
        value = resolve(parse_json(event.data), self._pointer)
        if isinstance(value, str) and value:
            return utf8(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return b"%d" % value
        return None
