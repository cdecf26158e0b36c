"""The commands of the comparison, and the side effect that every program has for them.

A command says itself how long it takes and how often it fails before it succeeds, so that all
programs have the same to do. Both the handler of our flow and the plain Faust application call
:func:`run`; what they know of a command's order and time is what they write into the ledger.
"""

import asyncio
import os
import random
import time
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from edo_stream.actions import Call, TransientError, action
from load.effects import Ledger, Line, Moment

LEDGER: Final = "BENCH_LEDGER"
FLOW: Final = "bench"
"""What the ledger calls the one flow that there is."""
_WAIT_MAX_MS: Final = 5.0
#: Shares of commands that fail once, and twice, where any fail at all.
_FAILS_ONCE: Final = 0.03
_FAILS_TWICE: Final = 0.01


class Job(msgspec.Struct, frozen=True):
    """What a command asks for."""

    number: int
    key: str
    wait_ms: float
    fails: int
    """How many attempts fail."""


def jobs(count: int, keys: int, is_failing: bool, seed: int = 1) -> list[Job]:
    """The commands, in their order."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        key, wait_ms, draw = (
            chance.randrange(keys),
            chance.uniform(0, _WAIT_MAX_MS),
            chance.random(),
        )
        fails = 2 * (draw < _FAILS_TWICE) or int(draw < _FAILS_TWICE + _FAILS_ONCE)
        found.append(Job(number, f"k{key}", wait_ms, fails if is_failing else 0))
    return found


class FailedRunError(Exception):
    """The attempt has failed, as the command wants it."""


async def run(job: Job, attempt: int, due_ms: float = 0.0) -> None:
    """Do what a command asks for, and write it down.

    Raises:
        FailedRunError: this attempt is one that fails.
    """
    _note(Moment.BEGAN, job, attempt, due_ms)
    await asyncio.sleep(job.wait_ms / 1000)
    if attempt <= job.fails:
        raise FailedRunError
    _note(Moment.EFFECT, job, attempt, due_ms)


@action(Job)
async def handle(job: Job, call: Call) -> None:
    """Our flow's handler."""
    try:
        await run(job, call.attempt)
    except FailedRunError:
        raise TransientError("as it was told") from None


def _note(moment: Moment, job: Job, attempt: int, due_ms: float) -> None:
    name, at_ms = str(job.number), time.time_ns() / 1e6
    _ledger().write(
        Line(moment, FLOW, name, name, job.key, job.number, attempt, at_ms, os.getpid(), due_ms)
    )


@cache
def _ledger() -> Ledger:
    return Ledger(Path(os.environ[LEDGER]))
