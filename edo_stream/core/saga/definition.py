"""What a saga is declared to be: one version of it, frozen; running instances keep to theirs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from edo_stream.core.asked import Replies
from edo_stream.core.contract import DAY_MS


@dataclass(frozen=True, slots=True)
class SagaStep:
    """One step: a command of a flow, and the command that undoes it."""

    name: str
    flow: str | None = None
    """Whose command it is; ``None``: a person does it, and says so."""
    undo: str | None = None
    """Flow of the compensation; ``None``: there is nothing to undo."""
    after: tuple[str, ...] = ()
    """Steps that must be done before; those that share them run side by side."""
    timeout_ms: int | None = None
    """From the command to its reply, retries included."""
    is_pivot: bool = False
    """Once it is done there is no way back: what fails afterwards waits for a person."""


@dataclass(frozen=True)
class SagaDefinition:
    """A version of a saga; steps stand behind all that they come after."""

    name: str
    version: int
    steps: tuple[SagaStep, ...]
    deadline_ms: int | None = None
    """From the start to the end; beyond it, what is done is undone."""
    kept_ms: int = 7 * DAY_MS
    """How long an instance that has ended is remembered, with its key."""
    is_repeatable: bool = False
    """Whether an event for a key whose instance has ended starts another one."""
    digest: str = ""
    """Of the file's meaning: the same version must not change while instances run."""

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for step in self.steps:
            assert seen.issuperset(step.after), f"{step.name} comes after what stands behind it"
            assert step.name not in seen, f"{step.name} stands twice"
            seen.add(step.name)
        assert seen, "a saga has steps"

    @cached_property
    def by_name(self) -> Mapping[str, SagaStep]:
        """Steps by name, in their order."""
        return {step.name: step for step in self.steps}

    @cached_property
    def descendants(self) -> Mapping[str, frozenset[str]]:
        """All steps that come after a step, at whatever distance."""
        found: dict[str, set[str]] = {step.name: set() for step in self.steps}
        for step in reversed(self.steps):
            for before in step.after:
                found[before] |= {step.name} | found[step.name]
        return {name: frozenset(after) for name, after in found.items()}

    @cached_property
    def pivot(self) -> str | None:
        """Name of the pivot, if there is one."""
        return next((step.name for step in self.steps if step.is_pivot), None)


@dataclass(frozen=True, slots=True)
class SagaTopics:
    """Topics of one saga, shared by its versions; each has the partitions of the group."""

    starts: str
    """Events that start instances, keyed by what tells instances apart."""
    outcomes: str
    """Of the steps' commands."""
    dead_letters: str
    """Commands of steps that were given up."""
    events: str
    """What happens to instances."""


@dataclass(frozen=True, slots=True)
class SagaSpec:
    """One saga: its versions, of which new instances get the newest."""

    name: str
    owner: str
    topics: SagaTopics
    versions: Mapping[int, SagaDefinition]
    commands: Mapping[str, str]
    """Topics of the commands, by flow."""
    replies: Replies | None = None
    """Where events that start it may ask to be told of the end."""

    @property
    def newest(self) -> SagaDefinition:
        """What new instances run."""
        return self.versions[max(self.versions)]
