"""A task with one table on a bench, whatever it decides: fed, crashed and restored at will."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from edo_stream.core.accounts import Account
from edo_stream.core.effects import Effects, Publish
from edo_stream.core.record import Record
from edo_stream.core.state import Table, as_is
from edo_stream.core.task_pipeline import TaskPipeline
from tests.core.memory import Changelog

NOW_MS = 1_700_000_000_000
PipelineT = TypeVar("PipelineT", bound=TaskPipeline)


@dataclass(kw_only=True)
class OneState(ABC, Generic[PipelineT]):
    """One task; every step is committed unless said otherwise."""

    log: Changelog = field(default_factory=lambda: Changelog(as_is))
    published: list[Publish] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)

    @abstractmethod
    def pipeline_over(self, state: Table) -> PipelineT:
        """The pipeline of the task over its table."""

    @abstractmethod
    def step(self, *records: Record, now_ms: int = NOW_MS, caught_up_ms: int = 0) -> Effects:
        """Step without a commit, and unless told otherwise without timers."""

    def open(self) -> None:
        """Open a pipeline over what the changelog says, as after a crash or on another worker."""
        self.rows = self.log.restored()
        self.state = Table(self.rows)
        self.pipeline = self.pipeline_over(self.state)

    def commit(self, effects: Effects) -> Effects:
        """Let a step be."""
        self.log.commit(self.state, self.rows)
        self.published += effects.publish
        self.accounts += effects.accounts
        return effects

    def feed(self, *records: Record, now_ms: int = NOW_MS) -> Effects:
        """Step with records only, and commit."""
        return self.commit(self.step(*records, now_ms=now_ms))

    def tick(self, now_ms: int) -> None:
        """Fire all that is due, step by step."""
        while (due_ms := self.pipeline.next_due_ms()) is not None and due_ms <= now_ms:
            self.commit(self.step(now_ms=now_ms, caught_up_ms=now_ms))
