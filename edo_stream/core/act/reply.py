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

The command of a flow that waits has many events, of which several may ask: ``edo-askers`` names
them, each is told, and it is run whatever their deadlines.
"""

from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Failed, FailureClass
from edo_stream.core.act.policy import FlowPolicy
from edo_stream.core.asked import ASKERS, REPLY_TO, Asker, Replies, decode_askers, expired_since


def replies_of(policy: FlowPolicy) -> Replies | None:
    """Where a flow replies, if it does."""
    if policy.replies is None:
        return None
    return Replies(policy.flow, policy.replies, policy.reply_partitions)


def askers_of(command: Command, policy: FlowPolicy) -> list[Asker]:
    """Who is to be told how a command ends; a command of many events may have several.

    A replay answers nobody: who asked has waited before.
    """
    replies = replies_of(policy)
    if replies is None or command.replay:
        return []
    for name, value in command.headers:
        if name == ASKERS and value:
            return decode_askers(value)
    correlation_id = command.correlation_id or command.id
    asker = replies.asker(command.headers, request_of(command), correlation_id)
    return [] if asker is None else [asker]


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
    text = expired_since(command.headers, now_ms)
    if text is None:
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
