"""Side effects by a program: an argument list, never a shell, in an environment of its own."""

import asyncio
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Final

from edo_stream.actions.rules import EXIT_RULES, CodeRule, meaning_of
from edo_stream.actions.template import Template, UnfilledError, values_of
from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome

_OUTPUT_BYTES_MAX: Final = 256 * 1024
_ERRORS_CHARS_MAX: Final = 500
_GRACE_S: Final = 5.0


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
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                cwd=self._program.directory,
                env=self._environment(command),
                # Of its own group: what it starts ends with it.
                start_new_session=True,
            )
        except OSError as error:
            return Failed(FailureClass.POISON, "not-started", f"{arguments[0]}: {error.strerror}")
        try:
            output, errors = await _talk(process, command.data or b"")
            code = await process.wait()
        except asyncio.CancelledError:
            await _end(process)
            raise
        meaning = meaning_of(code, self._rules)
        if meaning is None:
            return Done(output or None)
        return Failed(
            meaning, f"exit-{code}", errors.decode("utf-8", "replace")[-_ERRORS_CHARS_MAX:]
        )

    def _environment(self, command: Command) -> dict[str, str]:
        names = ("PATH", *self._program.environment)
        known = {name: self._environ[name] for name in names if name in self._environ}
        return known | {
            "EDO_COMMAND_ID": command.id,
            "EDO_IDEMPOTENCY_KEY": command.idempotency_key,
            "EDO_FLOW": command.flow,
            "EDO_ATTEMPT": str(command.attempt),
        }


async def _talk(process: Process, data: bytes) -> tuple[bytes, bytes]:
    """Write its input and read its output, the first part of each."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    _, output, errors = await asyncio.gather(
        _write(process.stdin, data), _read(process.stdout), _read(process.stderr)
    )
    return output, errors


async def _write(pipe: asyncio.StreamWriter, data: bytes) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        pipe.write(data)
        await pipe.drain()
    pipe.close()
    with suppress(BrokenPipeError, ConnectionResetError):
        await pipe.wait_closed()


async def _read(pipe: asyncio.StreamReader) -> bytes:
    kept = bytearray()
    while part := await pipe.read(1 << 16):
        kept += part[: max(0, _OUTPUT_BYTES_MAX - len(kept))]
    return bytes(kept)


async def _end(process: Process) -> None:
    """Ask it and all that it started to end; after a while, make them."""
    for signal in (SIGTERM, SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal)
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await process.wait()
                return
