"""Executors that do what their command tells them, and write down what they did.

What happens once only (a crash, a plea for patience) leaves a file, so that the next run of the
same attempt goes on.
"""

import asyncio
import os
import time
from functools import cache
from pathlib import Path
from typing import Final, NoReturn

from edo_stream.actions import (
    BusinessError,
    Call,
    PermanentError,
    Throttled,
    TransientError,
    action,
)
from load.act_chaos.plan import HANG_S, Job, Step
from load.effects import Ledger, Line, Moment

DIRECTORY: Final = "CHAOS_DIRECTORY"
"""Where the ledger is."""
LEDGER: Final = "ledger"
ONCE: Final = "once"
"""Directory of the attempts that have had what happens once."""
CRASHED: Final = "crashed"
"""Directory of those that have ended their process."""
#: Longer than any timeout: the run is cancelled.
_FOR_EVER_S: Final = 600.0
_EXIT_CODE: Final = 70


class BugError(Exception):
    """What a handler raises that its author did not think of."""


@action(Job)
async def perform(job: Job, call: Call) -> None:
    """Run in the worker's event loop."""
    _note(Moment.BEGAN, job, call)
    await asyncio.sleep(job.wait_ms / 1000)
    if job.step(call.attempt) is Step.HANG:
        await asyncio.sleep(_FOR_EVER_S)
    _take(job.step(call.attempt), job, call)


@action(Job)
def perform_in_thread(job: Job, call: Call) -> None:
    """Run in a thread."""
    _note(Moment.BEGAN, job, call)
    time.sleep(job.wait_ms / 1000)
    if job.step(call.attempt) is Step.HANG_AND_DO:
        time.sleep(HANG_S)
    _take(job.step(call.attempt), job, call)


def _take(step: Step, job: Job, call: Call) -> None:
    match step:
        case Step.FAIL:
            raise TransientError("as it was told")
        case Step.REFUSE:
            raise BusinessError("as it was told")
        case Step.POISON:
            raise PermanentError("as it was told")
        case Step.BUG:
            raise BugError("as it was told")
        case Step.THROTTLE if _is_first(call):
            raise Throttled("as it was told", retry_after=0.5)
        case Step.CRASH if _is_first(call):
            _crash(call)
        case _:
            _note(Moment.EFFECT, job, call)
    if step is Step.FAIL_AFTER:
        raise TransientError("as it was told")
    if step is Step.CRASH_AFTER and _is_first(call):
        _crash(call)


def _crash(call: Call) -> NoReturn:
    (_directory() / CRASHED / _name(call)).touch()
    os._exit(_EXIT_CODE)


def _is_first(call: Call) -> bool:
    """Whether this attempt is here for the first time, in whatever process."""
    try:
        (_directory() / ONCE / _name(call)).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _name(call: Call) -> str:
    return f"{call.id}-{call.attempt}"


def _note(moment: Moment, job: Job, call: Call) -> None:
    _ledger().write(
        Line(
            moment,
            call.flow,
            call.id,
            call.idempotency_key,
            job.key,
            job.number,
            call.attempt,
            time.time_ns() / 1e6,
            os.getpid(),
        )
    )


def _directory() -> Path:
    return Path(os.environ[DIRECTORY])


@cache
def _ledger() -> Ledger:
    return Ledger(_directory() / LEDGER)
