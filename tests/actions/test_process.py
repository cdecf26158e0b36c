"""Side effects by programs."""

import asyncio
import sys
from contextlib import suppress
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

#: Long, for machines under load: a wait ends as soon as there is what it waits for.
PATIENCE_S = 60.0


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
        async with asyncio.timeout(PATIENCE_S):
            while not (marker.exists() and marker.read_text()):  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.02)
        started = psutil.Process(int(marker.read_text()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert wait_gone([started], PATIENCE_S) == [], "nothing of it lives on"

    asyncio.run(go())


_LEAVES_ONE = """
import pathlib, subprocess, sys, time
one = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
pathlib.Path(sys.argv[1]).write_text(str(one.pid))
print('done')
"""


def test_what_a_program_leaves_behind_ends_with_it_and_is_not_waited_for(tmp_path: Path) -> None:
    marker = tmp_path / "left"
    assert run(python(_LEAVES_ONE, str(marker))) == Done(b"done\n")
    with suppress(psutil.NoSuchProcess):
        assert wait_gone([psutil.Process(int(marker.read_text()))], PATIENCE_S) == []


_DEAF = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) > 2:
    subprocess.Popen([sys.executable, '-c', sys.argv[2], sys.argv[1]])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
else:
    pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(600)
"""


def test_what_does_not_want_to_end_is_made_to(tmp_path: Path) -> None:
    marker = tmp_path / "deaf"

    async def go() -> None:
        task = asyncio.create_task(python(_DEAF, str(marker), _DEAF)(command()))
        async with asyncio.timeout(PATIENCE_S):
            while not (marker.exists() and marker.read_text()):  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.02)
        deaf = psutil.Process(int(marker.read_text()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert wait_gone([deaf], PATIENCE_S) == [], "although its parent ended at once"

    asyncio.run(go())


def test_a_signal_is_a_code_as_shells_say_it() -> None:
    code = "import os; os.kill(os.getpid(), 9)"
    rules = (CodeRule(137, 137, FailureClass.BUSINESS),)
    assert run(python(code)) == Failed(FailureClass.TRANSIENT, "exit-137")
    assert run(python(code, rules=rules)) == Failed(FailureClass.BUSINESS, "exit-137")


def test_of_what_it_says_to_its_errors_the_last_is_told() -> None:
    code = "import sys; sys.stderr.write('x' * 1_000_000 + 'the reason'); sys.exit(1)"
    outcome = run(python(code))
    assert isinstance(outcome, Failed)
    assert outcome.detail.endswith("the reason")
    assert len(outcome.detail) == 500


_POLITE = """
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path(sys.argv[1]).write_text('tidied up')
    sys.exit()
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1]).write_text('ready')
time.sleep(600)
"""


def test_a_cancelled_program_may_tidy_up(tmp_path: Path) -> None:
    marker = tmp_path / "polite"

    async def go() -> None:
        task = asyncio.create_task(python(_POLITE, str(marker))(command()))
        async with asyncio.timeout(PATIENCE_S):
            while not (marker.exists() and marker.read_text()):  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert marker.read_text() == "tidied up"
