"""Side effects by a program: an argument list, never a shell, in an environment of its own.

A program runs in a session of its own, and what it has started ends with it, whether it ends by
itself or its time is over. What has left the session (a daemon) is not reached; its hold on the
output is not waited for.
"""

import asyncio
import errno
import os
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Any, Final

from edo_stream.actions.rules import EXIT_RULES, CodeRule, meaning_of
from edo_stream.actions.template import Template, UnfilledError, values_of
from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome

_OUTPUT_BYTES_MAX: Final = 256 * 1024
_ERRORS_CHARS_MAX: Final = 500
#: From SIGTERM to SIGKILL.
_GRACE_S: Final = 3.0
#: For what others still write when the program has ended.
_LINGER_S: Final = 0.5
_STDIN, _STDOUT = 0, 1
#: Of the machine, not of the program: too many processes or files, no memory, being written.
_PASSING: Final = frozenset(
    {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY, errno.EIO}
)


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. The event's data is its standard input, its standard output the outcome's."""

    arguments: Sequence[Template]
    environment: Sequence[str] = ()
    """Variables of the worker that it may see; besides these it has ``PATH`` and the command's."""
    directory: Path | None = None
    rules: Sequence[CodeRule] = field(default_factory=tuple)


class ProgramExecutor:
    """Runs commands by a program each; ``environ`` is the worker's environment."""

    def __init__(self, program: Program, environ: Mapping[str, str] = os.environ) -> None:
        self._program = program
        self._environ = environ
        self._rules = (*program.rules, *EXIT_RULES)

    async def __call__(self, command: Command) -> Outcome:
        """Run one program to its end, or to that of its time."""
        try:
            values = values_of(command)
            arguments = [template.fill(values) for template in self._program.arguments]
            if any("\0" in argument for argument in arguments):
                raise UnfilledError("an argument contains NUL")
        except UnfilledError as error:
            return Failed(FailureClass.POISON, "template", str(error))
        program = _Program()
        try:
            transport, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: program,
                *arguments,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                cwd=self._program.directory,
                env=self._environment(command),
                start_new_session=True,
            )
        except OSError as error:
            passes = error.errno in _PASSING
            meaning = FailureClass.TRANSIENT if passes else FailureClass.POISON
            return Failed(meaning, "not-started", f"{arguments[0]}: {error.strerror}")
        try:
            await program.run(transport, command.data or b"")
        except asyncio.CancelledError:
            await program.ask_to_end(transport)
            raise
        finally:
            _signal(transport, SIGKILL)
            transport.close()
        return self._outcome(program, transport.get_returncode())

    def _outcome(self, program: "_Program", code: int | None) -> Outcome:
        assert code is not None, "it has ended"
        # Ended by a signal, as shells say it.
        code = code if code >= 0 else 128 - code
        meaning = meaning_of(code, self._rules)
        if meaning is None:
            return Done(bytes(program.output) or None)
        errors = program.errors.decode("utf-8", "replace")
        return Failed(meaning, f"exit-{code}", errors[-_ERRORS_CHARS_MAX:])

    def _environment(self, command: Command) -> dict[str, str]:
        names = ("PATH", *self._program.environment)
        known = {name: self._environ[name] for name in names if name in self._environ}
        return known | {
            "EDO_COMMAND_ID": command.id,
            "EDO_IDEMPOTENCY_KEY": command.idempotency_key,
            "EDO_FLOW": command.flow,
            "EDO_ATTEMPT": str(command.attempt),
        }


class _Program(asyncio.SubprocessProtocol):
    """One program while it runs: the first part of its output, the last of its errors."""

    def __init__(self) -> None:
        self.output = bytearray()
        self.errors = bytearray()
        self._ended = asyncio.Event()
        self._closed = asyncio.Event()

    async def run(self, transport: asyncio.SubprocessTransport, data: bytes) -> None:
        """Give it its input, and wait for its end and for its output's."""
        stdin: Any = transport.get_pipe_transport(_STDIN)
        stdin.write(data)
        stdin.close()
        await self._ended.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), _LINGER_S)

    async def ask_to_end(self, transport: asyncio.SubprocessTransport) -> None:
        """Ask it and what it started to end, and give it some time to."""
        if not self._ended.is_set():
            _signal(transport, SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _GRACE_S)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Keep what is in bounds; all is read, so that nothing blocks it."""
        if fd == _STDOUT:
            self.output += data[: max(0, _OUTPUT_BYTES_MAX - len(self.output))]
        else:
            self.errors += data
            # A character has up to four bytes.
            del self.errors[: -4 * _ERRORS_CHARS_MAX]

    def process_exited(self) -> None:
        """It has ended; what it has started may go on and hold its output."""
        self._ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended, and all has been read."""
        self._closed.set()


def _signal(transport: asyncio.SubprocessTransport, signal: Signals) -> None:
    """Signal all of its group, which goes on to have its number while any of it lives."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(transport.get_pid(), signal)
