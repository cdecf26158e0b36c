"""What the commands of a run do: for each attempt a step, drawn from a seed.

Flows differ in what they promise, and in how they call. A command's steps are part of its data, so
that the executor knows what to do and the judge what must have come of it.
"""

import random
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

from edo_stream.core.act.policy import Delivery, Order

KEYS: Final = 25
WAIT_MAX_MS: Final = 20.0
TIMEOUT_S: Final = 1.5
HANG_S: Final = TIMEOUT_S + 0.5
RETRIES: Final = 4


class Step(Enum):
    """What one attempt does; what is not planned succeeds."""

    SUCCEED = "succeed"
    FAIL = "fail"
    FAIL_AFTER = "fail-after"
    """It fails when the effect has happened."""
    THROTTLE = "throttle"
    """Once; then it succeeds, as the same attempt."""
    REFUSE = "refuse"
    POISON = "poison"
    BUG = "bug"
    HANG = "hang"
    """Past its timeout."""
    HANG_AND_DO = "hang-and-do"
    """Past its timeout, and the effect happens all the same."""
    CRASH = "crash"
    """The process ends at once, before the effect; once."""
    CRASH_AFTER = "crash-after"
    """The process ends at once, when the effect has happened; once."""


@dataclass(frozen=True, slots=True)
class FlowPlan:
    """A flow of the run."""

    name: str
    kind: str
    """``async``, ``thread`` or ``http``."""
    shares: dict[Step, float]
    order: Order = Order.STRICT
    delivery: Delivery = Delivery.AT_LEAST_ONCE


_FAILING: Final = {Step.FAIL: 0.05, Step.THROTTLE: 0.02, Step.REFUSE: 0.02, Step.POISON: 0.01}
_CRASHING: Final = {Step.CRASH: 0.0008, Step.CRASH_AFTER: 0.0008}

FLOWS: Final = (
    FlowPlan(
        "ship",
        "async",
        {**_FAILING, **_CRASHING, Step.FAIL_AFTER: 0.01, Step.BUG: 0.005, Step.HANG: 0.005},
    ),
    FlowPlan("bill", "async", {**_FAILING, **_CRASHING}, delivery=Delivery.AT_MOST_ONCE),
    FlowPlan(
        "note",
        "thread",
        {**_FAILING, Step.FAIL_AFTER: 0.01, Step.BUG: 0.005, Step.HANG_AND_DO: 0.003},
        Order.RELAXED,
    ),
    FlowPlan("tell", "http", {**_FAILING, Step.FAIL_AFTER: 0.01, Step.HANG_AND_DO: 0.005}),
)


class Job(msgspec.Struct, frozen=True):
    """What a command asks for."""

    number: int
    key: str
    wait_ms: float
    steps: list[Step]

    def step(self, attempt: int) -> Step:
        """What an attempt is to do."""
        return self.steps[attempt - 1] if attempt <= len(self.steps) else Step.SUCCEED


class Jobs:
    """The jobs of a flow, without an end."""

    def __init__(self, flow: FlowPlan, seed: int) -> None:
        self._chance = random.Random(f"{seed} {flow.name}")
        self._steps = list(flow.shares)
        self._shares = list(flow.shares.values())
        self.made: list[Job] = []

    def next(self) -> Job:
        """The next one."""
        chance = self._chance
        steps = []
        # A step that does not end a command is followed by another one.
        while chance.random() < sum(self._shares):
            steps.append(chance.choices(self._steps, self._shares)[0])
        if chance.random() < 0.003:  # One that always fails, to the end of the ladder.
            steps = [Step.FAIL] * (RETRIES + 1)
        job = Job(
            len(self.made), f"k{chance.randrange(KEYS)}", chance.uniform(0, WAIT_MAX_MS), steps
        )
        self.made.append(job)
        return job
