"""Side effects by programs."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from edo_stream.actions.process import Program, ProgramExecutor
from edo_stream.actions.rules import CodeRule
from edo_stream.actions.template import Template
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from edo_stream.local.process import wait_gone
from tests.actions.commands import command


def executor(*arguments: str, **more: Any) -> ProgramExecutor:
    program = Program([Template(argument) for argument in arguments], **more)
    return ProgramExecutor(program, {"PATH": "/usr/bin:/bin", "SHOWN": "yes", "HIDDEN": "no"})


def python(code: str, *arguments: str, **more: Any) -> ProgramExecutor:
    return executor(sys.executable, "-c", code, *arguments, **more)


def run(what: ProgramExecutor, data: Any = None) -> Outcome:
    return asyncio.run(what(command(data)))


def test_a_program_reads_the_event_and_writes_the_outcome() -> None:
    code = "import sys; sys.stdout.write(sys.stdin.read() + sys.argv[1])"
    assert run(python(code, "{{ data.id }}; rm"), {"id": 5}) == Done(b'{"id":5}5; rm')


def test_it_sees_of_the_environment_what_it_may() -> None:
    code = "import os; print(sorted(n for n in os.environ if n[:2] != 'LC'))"
    outcome = run(python(code, environment=("SHOWN", "MISSING")))
    assert isinstance(outcome, Done)
    names = ["EDO_ATTEMPT", "EDO_COMMAND_ID", "EDO_FLOW", "EDO_IDEMPOTENCY_KEY", "PATH", "SHOWN"]
    assert (outcome.data or b"").decode().strip() == str(names)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1, FailureClass.TRANSIENT),
        (64, FailureClass.POISON),
        (75, FailureClass.TRANSIENT),
        (3, FailureClass.BUSINESS),
    ],
)
def test_its_exit_code_says_how_it_ended(code: int, expected: FailureClass) -> None:
    source = f"import sys; print('why', file=sys.stderr); sys.exit({code})"
    rules = (CodeRule(3, 3, FailureClass.BUSINESS),)
    assert run(python(source, rules=rules)) == Failed(expected, f"exit-{code}", "why\n")


def test_a_program_that_is_not_there_is_poison() -> None:
    outcome = run(executor("/no/such/program"))
    assert isinstance(outcome, Failed)
    assert (outcome.failure, outcome.reason) == (FailureClass.POISON, "not-started")


def test_what_it_writes_beyond_the_bound_is_dropped_and_does_not_block_it() -> None:
    outcome = run(python("print('x' * 5_000_000)"))
    assert isinstance(outcome, Done)
    assert len(outcome.data or b"") == 256 * 1024


def test_a_program_that_does_not_read_its_input_is_well() -> None:
    assert run(python("pass"), "x" * 1_000_000) == Done()


_LIVES_ON = """
import os, pathlib, signal, sys
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
signal.pause()
"""
_STARTS_ANOTHER = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"


def test_a_cancelled_run_ends_the_program_and_what_it_started(tmp_path: Path) -> None:
    marker = tmp_path / "alive"

    async def go() -> None:
        task = asyncio.create_task(python(_STARTS_ANOTHER, _LIVES_ON, str(marker))(command()))
        async with asyncio.timeout(20):
            while not (marker.exists() and marker.read_text()):  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.02)
        started = psutil.Process(int(marker.read_text()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert wait_gone([started], 5.0) == [], "nothing of it lives on"

    asyncio.run(go())
