"""A command: the decide plane's request for one side effect, as a record on a topic.

It is a CloudEvent in binary mode. ``ce_id`` is its identity through all attempts, and what the
idempotency key of the side effect derives from. What the act plane adds when it writes a command
to a tier are headers of its own, all starting with ``edo-``:

| Header | Meaning |
|---|---|
| ``edo-flow`` | the flow whose executor runs it |
| ``edo-attempt`` | number of the next attempt; the first is 1 |
| ``edo-first-ms`` | when the first attempt failed, epoch ms |
| ``edo-due-ms`` | when it leaves the tier, epoch ms |
| ``edo-not-before-ms`` | not to be run before; until then it goes through tiers again |
| ``edo-blocks`` | later commands of its key are parked behind it |
| ``edo-origin`` | ``topic/partition/offset`` of the record that the decide plane wrote |
| ``edo-error`` | class and reason of the last failure |
| ``edo-redrive`` | how often an operator has sent it again |
| ``edo-replay`` | the replay that has written it once more, of an event of before |

A record with ``edo-cancel`` is none: it cancels the commands of its key that lie before it, or
with ``edo-cancel-tag`` those that have the tag (:mod:`.tags`). Its value is ``announced`` where the
control topic has another one like it, else ``alone``.
"""

from typing import Final

import msgspec

from edo_stream.core.act.tags import CANCEL_TAG, TAGS, tags_of
from edo_stream.core.event import Violation
from edo_stream.core.headers import Header
from edo_stream.core.record import Record

FLOW: Final = "edo-flow"
ATTEMPT: Final = "edo-attempt"
FIRST_MS: Final = "edo-first-ms"
DUE_MS: Final = "edo-due-ms"
NOT_BEFORE_MS: Final = "edo-not-before-ms"
BLOCKS: Final = "edo-blocks"
ORIGIN: Final = "edo-origin"
ERROR: Final = "edo-error"
REDRIVE: Final = "edo-redrive"
REPLAY: Final = "edo-replay"
CANCEL: Final = "edo-cancel"
ANNOUNCED: Final = "announced"
ALONE: Final = "alone"
POSITION: Final = "edo-position"

#: Headers of one hop, which the next one writes anew.
HOP: Final = frozenset({FLOW, ATTEMPT, FIRST_MS, DUE_MS, NOT_BEFORE_MS, BLOCKS, ORIGIN, ERROR})

_NUMBER_MAX: Final = 2**63


class Command(msgspec.Struct, frozen=True, gc=False):
    """One command, at one attempt."""

    id: str
    flow: str
    type: str
    key: bytes
    data: bytes | None
    headers: tuple[Header, ...]
    """All of the record's, as they came."""
    timestamp_ms: int
    origin: str
    """``topic/partition/offset`` of the first attempt's record."""
    attempt: int = 1
    first_ms: int | None = None
    """When the first attempt failed; ``None`` before."""
    due_ms: int = 0
    """When it leaves its tier."""
    not_before_ms: int = 0
    """When it may run; later than ``due_ms`` if that is beyond the longest tier."""
    blocks: bool = False
    """Its key is blocked by it, or was until an operator dropped it."""
    error: str = ""
    """Class and reason of the last failure."""
    correlation_id: str | None = None
    redrive: int = 0
    replay: str = ""
    """The replay that has written it once more; its id is that of the first time."""
    cancels: str = ""
    """Not empty: it is none, and those of its key, or with its tag, before it are cancelled."""
    tags: tuple[bytes, ...] = ()
    """What events may cancel it by besides its key; of what cancels, the one that it names."""

    @property
    def position(self) -> bytes:
        """``topic/partition/offset`` of the event that it was made for; empty without one."""
        return next((value or b"" for name, value in self.headers if name == POSITION), b"")

    @property
    def queue(self) -> bytes:
        """What orders it: its flow and its key."""
        return queue_of(self.flow, self.key)

    @property
    def scope(self) -> bytes:
        """Of what cancels: whose commands it means, those with a tag or of its key."""
        return self.tags[0] if self.tags else self.queue

    @property
    def idempotency_key(self) -> str:
        """What the receiver may know it by: the same whenever it is run or sent again."""
        return self.id


def queue_of(flow: str, key: bytes) -> bytes:
    """Name of a key's queue within a task; a flow's name contains no NUL."""
    return flow.encode() + b"\0" + key


def flow_of(queue: bytes) -> str:
    """Flow of a key's queue, by its name."""
    return queue.partition(b"\0")[0].decode()


def parse_command(record: Record, flow_of_topic: str | None) -> Command | Violation:
    """Read a command; a topic of commands has one flow, the records of a tier (``None``) say it."""
    values: dict[str, bytes] = {name: value or b"" for name, value in record.headers}
    try:
        command_id = values.get("ce_id", b"").decode()
        flow = values.get(FLOW, b"").decode() if flow_of_topic is None else flow_of_topic
        if not command_id:
            return Violation("invalid", "ce_id: expected a header, found none")
        if not flow:
            return Violation("invalid", f"{FLOW}: expected a header, found none")
        correlation = values.get("ce_correlationid")
        place = f"{record.topic}/{record.partition}/{record.offset}"
        return Command(
            id=command_id,
            flow=flow,
            type=values.get("ce_type", b"").decode(),
            key=record.key or b"",
            data=record.value,
            headers=tuple(record.headers),
            timestamp_ms=record.timestamp,
            origin=values[ORIGIN].decode() if ORIGIN in values else place,
            attempt=_number(values, ATTEMPT, 1),
            first_ms=_number(values, FIRST_MS, 0) or None,
            due_ms=_number(values, DUE_MS, 0),
            not_before_ms=_number(values, NOT_BEFORE_MS, 0),
            blocks=flow_of_topic is None and BLOCKS in values,
            error=values.get(ERROR, b"").decode(),
            correlation_id=None if correlation is None else correlation.decode(),
            redrive=_number(values, REDRIVE, 0),
            replay=values.get(REPLAY, b"").decode(),
            cancels=values.get(CANCEL, b"").decode(),
            tags=tags_of(flow, values.get(TAGS), values.get(CANCEL_TAG)),
        )
    except UnicodeDecodeError:
        return Violation("invalid", "headers: expected UTF-8")
    except ValueError as error:
        return Violation("invalid", str(error))


def _number(values: dict[str, bytes], name: str, default: int) -> int:
    text = values.get(name)
    if text is None:
        return default
    if not text.isdigit() or not default <= int(text[:20]) < _NUMBER_MAX:
        raise ValueError(f"{name}: expected a number of at least {default}")
    return int(text)
