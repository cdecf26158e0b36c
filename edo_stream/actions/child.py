"""The process that runs a handler: ``python -m edo_stream.actions.child package.module:function``.

Frames on its standard input are calls, frames on its standard output their ends: a length of four
bytes, then msgpack. What a handler prints goes to standard error. When its input ends, the worker
has, and so does it at once, with all that it has started.
"""

import os
import traceback
from collections.abc import Mapping
from queue import SimpleQueue
from signal import SIGKILL
from struct import Struct
from threading import Thread
from typing import BinaryIO, Final

import msgspec

from edo_stream.actions.invocation import Call
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome

LENGTH: Final = Struct(">I")


class Begin(msgspec.Struct, frozen=True):
    """The first frame: which handler, and what its exceptions mean."""

    handler: str
    meanings: Mapping[str, FailureClass]


class Request(msgspec.Struct, frozen=True):
    """A call."""

    data: bytes | None
    call: Call


class Reply(msgspec.Struct, frozen=True):
    """Its end: one of these."""

    done: Done | None = None
    failed: Failed | None = None
    raised: str | None = None
    """Name of an exception that says nothing of what it means."""
    trace: str = ""
    """Where it was raised, for the worker's log."""


encode = msgspec.msgpack.Encoder().encode
decode_begin = msgspec.msgpack.Decoder(Begin).decode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode


def framed(message: Begin | Request | Reply) -> bytes:
    """A message with its length before it."""
    body = encode(message)
    return LENGTH.pack(len(body)) + body


def main() -> None:
    """Answer calls until the worker ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    calls = os.fdopen(os.dup(0), "rb")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    # The handler's module is imported by the first call, and tells its mistakes like one.
    from edo_stream.actions.handler import invocation_of, load_handler  # noqa: PLC0415

    frames: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_read, args=(calls, frames), daemon=True).start()
    begin = decode_begin(frames.get())
    invocation = None
    while True:
        request = decode_request(frames.get())
        try:
            if invocation is None:
                invocation = invocation_of(load_handler(begin.handler), begin.meanings)
            reply = _reply(invocation(request.data, request.call))
        except BaseException as error:  # noqa: BLE001 - the worker tells it
            reply = Reply(raised=type(error).__name__, trace=traceback.format_exc())
        answers.write(framed(reply))
        answers.flush()


def _reply(outcome: Outcome) -> Reply:
    match outcome:
        case Done():
            return Reply(done=outcome)
        case Failed():
            return Reply(failed=outcome)


def _read(calls: BinaryIO, frames: "SimpleQueue[bytes]") -> None:
    while head := calls.read(LENGTH.size):
        frames.put(calls.read(LENGTH.unpack(head)[0]))
    # Its group is what it has started, and itself.
    os.killpg(0, SIGKILL)


if __name__ == "__main__":
    main()
