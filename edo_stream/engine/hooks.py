"""Who is told what tasks do: plain callables, so that the engine knows nothing of metrics.

Each is called once a transaction or more rarely, never per record; but for each retry. They return
at once and never raise.
"""

from collections.abc import Callable
from dataclasses import dataclass

from edo_stream.core.effects import Effects
from edo_stream.views import Failure


def _nobody(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Hooks:
    """The first argument of each is the task's group."""

    committed: Callable[[str, Effects, float, int], None] = _nobody
    """A transaction: its effects, its seconds from begin to commit, its end in epoch ms."""
    failed: Callable[[str, Failure], None] = _nobody
    """A task starts over."""
    restored: Callable[[str, int, float], None] = _nobody
    """A task has its tables again: changelog records read, seconds."""
    rewound: Callable[[str], None] = _nobody
    """A task reads records again that were handed to it and never arrived."""
    stood_by: Callable[[str, int], None] = _nobody
    """A standby has applied so many changelog records."""
    retried: Callable[[str, str, int], None] = _nobody
    """A command of a flow begins to run again: the flow, and ms since it was due."""
