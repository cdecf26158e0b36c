"""Requests and replies: an event that asks for the end of the command that it leads to.

A request is an event like any other, with headers that travel on to the command:

| Header | Meaning |
|---|---|
| ``ce_edoreplyto`` | topic that the reply is asked on, and after a ``/`` its partition |
| ``ce_correlationid`` | what the reply repeats |
| ``ce_expirytime`` | nobody waits for the reply later: what has not begun by then is not run |

A reply is an event of type ``edo.<flow>.<end>``: ``done`` with the result as its data, or
``failed``, ``unknown``, ``dead-letter`` or ``dropped`` with class, reason and detail; or
``skipped``, ``limited`` or ``cancelled`` with the reason why it was not run to its end.
``ce_edorequestid`` is the id of the request. It is written by the step that decides on the end, so
in the very transaction of the end.

A flow replies on one topic of its own choice, and nowhere else: a request cannot make a worker
write what it likes. What asks for another topic, or a partition that there is none of, is run all
the same; its end says in ``edo-reply-refused`` why nobody is told.
"""

from datetime import datetime
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Failed, FailureClass
from edo_stream.core.act.policy import FlowPolicy
from edo_stream.core.effects import Publish
from edo_stream.core.event import derive_id
from edo_stream.core.headers import JSON_CONTENT, SPECVERSION, Header, time_text, utf8
from edo_stream.core.partitioner import partition_of

REPLY_TO: Final = "ce_edoreplyto"
REQUEST: Final = "ce_edorequestid"
EXPIRY: Final = "ce_expirytime"
REFUSED: Final = "edo-reply-refused"

#: How replies end that no outcome has.
DEAD_LETTER: Final = "dead-letter"
DROPPED: Final = "dropped"

_SHOWN_MAX: Final = 200
_ID_CHARS_MAX: Final = 1_024
_DIGITS_MAX: Final = 6


def place_of(command: Command, policy: FlowPolicy) -> int | str | None:
    """Partition of the flow's topic that a reply is asked on; or why it is refused, if it is.

    ``None``: it is no request of this flow. A replay answers nobody: who asked has waited before.
    """
    if policy.replies is None or command.replay:
        return None
    asked = header_of(command, REPLY_TO)
    return None if asked is None else _place(asked, command, policy)


def _place(asked: str, command: Command, policy: FlowPolicy) -> int | str:
    assert policy.replies is not None, "what does not reply is asked before"
    topic = Replies(policy.flow, policy.replies, policy.reply_partitions)
    return topic.place(asked, command.correlation_id or command.id, request_of(command))


class Replies(NamedTuple):
    """Where a flow replies."""

    flow: str
    topic: str
    partitions: int

    def place(self, asked: str, correlation_id: str, request: str) -> int | str:
        """Partition that is asked for; or why it is refused."""
        topic, _, number = asked.partition("/")
        if topic != self.topic:
            return f"{asked[:_SHOWN_MAX]}: flow {self.flow} replies on {self.topic} alone"
        if max(len(correlation_id), len(request)) > _ID_CHARS_MAX:
            return f"{topic}: a request's ids have at most {_ID_CHARS_MAX} characters"
        if not number:
            return partition_of(utf8(correlation_id), self.partitions)
        # Of more digits than any number of partitions has, it is none; int() would take its time.
        is_number = number.isascii() and number.isdigit() and len(number) <= _DIGITS_MAX
        if not is_number or int(number) >= self.partitions:
            return f"{asked[:_SHOWN_MAX]}: {topic} has {self.partitions} partitions, from 0 on"
        return int(number)

    def answered(self, end: Publish, kind: str) -> tuple[Publish, ...]:
        """The end of an event of which there is no command, with its reply if one is asked for."""
        told = {name: (value or b"").decode("utf-8", "replace") for name, value in end.headers}
        asked = told.get(REPLY_TO)
        if asked is None:
            return (end,)
        # Where they are too long to be repeated, the end is without them.
        too_long = "-" * (_ID_CHARS_MAX + 1)
        correlation_id = told.get("ce_correlationid", too_long)
        request = told.get("ce_causationid", too_long)
        place = self.place(asked, correlation_id, request)
        if isinstance(place, str):
            return (replace(end, headers=[*end.headers, (REFUSED, utf8(place))]),)
        data = end.value
        if kind == DEAD_LETTER:
            why = {name: told[f"edo-{name}"] for name in ("class", "reason", "detail")}
            data = msgspec.json.encode(why)
        headers: list[Header] = [
            SPECVERSION,
            ("ce_id", derive_id("reply", told["ce_id"], kind).encode()),
            ("ce_source", utf8(told["ce_source"])),
            ("ce_type", utf8(f"edo.{self.flow}.{kind}")),
            ("ce_time", time_text(end.timestamp_ms)),
            ("ce_correlationid", utf8(correlation_id)),
            ("ce_causationid", utf8(told["ce_id"])),
            (REQUEST, utf8(request)),
            ("edo-flow", utf8(self.flow)),
            JSON_CONTENT,
        ]
        now_ms = end.timestamp_ms
        return end, Publish(self.topic, place, end.key, data, headers, now_ms)


def request_of(command: Command) -> str:
    """Id of the event that a command is the consequence of."""
    return header_of(command, "ce_causationid") or command.id


def expired(command: Command, policy: FlowPolicy, now_ms: int) -> Failed | None:
    """How a request ends that is not to be run any more; ``None``: it is to be run.

    Who sends a command again, or replays it, wants it run whatever it says.
    """
    if policy.replies is None or command.replay or command.redrive:
        return None
    if header_of(command, REPLY_TO) is None:
        return None
    text = header_of(command, EXPIRY)
    until_ms = None if text is None else _time_ms(text)
    if until_ms is None or now_ms < until_ms:
        return None
    detail = f"its request has expired at {text} before attempt {command.attempt}"
    return Failed(FailureClass.BUSINESS, "expired", detail)


def header_of(command: Command, name: str) -> str | None:
    """Text of a header; ``None`` when there is none, or it is no text."""
    for found, value in command.headers:
        if found == name and value:
            try:
                return value.decode()
            except UnicodeDecodeError:
                return None
    return None


def _time_ms(text: str) -> int | None:
    """Epoch ms of an RFC 3339 time; ``None`` for what is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int(found.timestamp() * 1000) if found.tzinfo is not None else None
