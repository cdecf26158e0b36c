"""What is declared under ``topics/``: read once at start, every mistake reported at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edo_stream.core.contract import Contract
from edo_stream.registry.contracts import FILE_NAME, Topic
from edo_stream.registry.document import Document, read
from edo_stream.registry.entry import Entry
from edo_stream.registry.finding import Finding, RegistryError
from edo_stream.registry.plan import Role, TopicSpec, control_topic, topic_plan
from edo_stream.registry.survey import Survey, survey

__all__ = [
    "Entry",
    "Finding",
    "Group",
    "Registry",
    "RegistryError",
    "Role",
    "Topic",
    "TopicSpec",
    "control_topic",
    "load",
    "registry_of",
]


@dataclass(frozen=True, slots=True)
class Group:
    """Topics with the same partitions, read by the same tasks."""

    name: str
    topics: tuple[str, ...]
    """Sorted."""
    partitions: int


@dataclass(frozen=True, slots=True)
class Registry:
    """All declared topics by name, sorted."""

    topics: Mapping[str, Topic]
    """Those that workers read."""
    entries: Mapping[str, Entry] = field(default_factory=dict)
    """All of them, as they are declared."""

    @property
    def contracts(self) -> dict[str, Contract]:
        """Contracts by topic."""
        return {name: topic.contract for name, topic in self.topics.items()}

    @property
    def groups(self) -> dict[str, Group]:
        """Co-partition groups by name."""
        names: dict[str, list[str]] = {}
        for name, contract in self.contracts.items():
            names.setdefault(contract.group, []).append(name)
        return {
            group: Group(group, tuple(topics), self.topics[topics[0]].contract.partitions)
            for group, topics in sorted(names.items())
        }

    def topic_plan(self, internal_replication: int = 1) -> tuple[TopicSpec, ...]:
        """Topics that must exist, but for the changelogs, which are the engine's."""
        partitions = {group.name: group.partitions for group in self.groups.values()}
        unread = [entry for name, entry in self.entries.items() if name not in self.topics]
        return topic_plan(self.topics.values(), unread, partitions, internal_replication)


def load(root: Path) -> Registry:
    """Read every ``<root>/<topic>/contract.yaml``.

    Raises:
        RegistryError: with every mistake of every file.
    """
    return registry_of(survey(_documents(root)))


def registry_of(surveyed: Survey) -> Registry:
    """What a survey found, if it can be used.

    Raises:
        RegistryError: with every mistake of every file.
    """
    if surveyed.findings:
        raise RegistryError(surveyed.findings)
    return Registry(surveyed.topics, surveyed.entries)


def _documents(root: Path) -> list[Document]:
    if not root.is_dir():
        raise RegistryError(
            [Finding(root, 1, "no such folder: write topics/<topic>/contract.yaml")]
        )
    folders = sorted(
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))
    )
    if not folders:
        raise RegistryError([Finding(root, 1, f"no topics: write <topic>/{FILE_NAME} in here")])
    return [read(folder / FILE_NAME) for folder in folders]
