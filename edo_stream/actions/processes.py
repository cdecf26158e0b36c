"""Handlers in processes of their own: as many as run at once, kept for the next call.

Each runs one call at a time. A call that is cancelled, or takes too long, ends with its process;
a process that dies takes only its own call with it. See :mod:`.child` for what runs there.
"""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from signal import SIGKILL

from edo_stream.actions import child
from edo_stream.actions.child import LENGTH, Begin, Reply, Request, decode_reply, framed
from edo_stream.actions.invocation import Call
from edo_stream.core.act.outcome import Failed, FailureClass, Outcome

log = logging.getLogger(__name__)


class Processes:
    """Those of one handler, ``package.module:function``."""

    def __init__(self, handler: str, meanings: Mapping[str, FailureClass]) -> None:
        self._begin = framed(Begin(handler, meanings))
        self._handler = handler
        self._idle: list[Process] = []
        self._all: set[Process] = set()
        self._ending: set[Process] = set()

    async def run(self, data: bytes | None, call: Call) -> Outcome:
        """Call the handler in a process that does nothing else meanwhile."""
        process = self._idle.pop() if self._idle else await self._start()
        try:
            reply = await _talk(process, Request(data, call))
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await process.wait()
            detail = f"the process ended while it ran, with code {code}"
            return Failed(FailureClass.TRANSIENT, "process-died", detail)
        else:
            self._idle.append(process)
        finally:
            if process not in self._idle:
                self._end(process)
        outcome = reply.done or reply.failed
        if outcome is not None:
            return outcome
        log.error("handler failed: %s, command %s\n%s", self._handler, call.id, reply.trace)
        return Failed(FailureClass.TRANSIENT, "executor-failed", reply.raised or "")

    async def _start(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            child.__name__,
            stdin=PIPE,
            stdout=PIPE,
            # What this process may import, that one may.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        self._all.add(process)
        assert process.stdin is not None
        process.stdin.write(self._begin)
        return process

    def _end(self, process: Process) -> None:
        """End it, and what it has started."""
        self._all.discard(process)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, SIGKILL)
        # Its pipes, at once: the loop may be at its end before it has seen theirs.
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - no public way
        self._ending = {one for one in self._ending if one.returncode is None} | {process}

    async def close(self) -> None:
        """End all."""
        self._idle = []
        for process in list(self._all):
            self._end(process)
        # Those of cancelled calls too: nobody else waits for them.
        for process in list(self._ending):
            await process.wait()
        self._ending = set()


async def _talk(process: Process, request: Request) -> Reply:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(framed(request))
    await process.stdin.drain()
    head = await process.stdout.readexactly(LENGTH.size)
    return decode_reply(await process.stdout.readexactly(LENGTH.unpack(head)[0]))
