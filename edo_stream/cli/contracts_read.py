"""What the verbs of `edo contracts` begin with: the folder of topics, the day, a way to print."""

import json
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from edo_stream.catalog.git import GitError, default_ref, tree_at
from edo_stream.catalog.lint import Before
from edo_stream.catalog.tree import Tree, read_tree
from edo_stream.cli.environment import CommandError, own_settings
from edo_stream.engine.clock import now_ms
from edo_stream.registry import Registry, RegistryError, load
from edo_stream.registry.entry import Entry
from edo_stream.registry.mistakes import nearest

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Against = Annotated[
    str | None,
    typer.Option(
        "--against", metavar="REF", help="Commit to compare with; default: origin/main, or main."
    ),
]


def topics_root() -> Path:
    """The folder of topics: EDO_TOPICS.

    Raises:
        CommandError: the settings have mistakes.
    """
    return own_settings().topics


def read_topics(root: Path) -> Tree:
    """Read all files.

    Raises:
        CommandError: there are none.
    """
    try:
        return read_tree(root)
    except RegistryError as error:
        raise CommandError(str(error), 2) from error


def load_topics() -> Registry:
    """Read all contracts, for a verb that has no use for mistaken ones.

    Raises:
        CommandError: with every mistake.
    """
    try:
        return load(topics_root())
    except RegistryError as error:
        raise CommandError(f"{error}\n('edo contracts lint' says more)", 2) from error


def entry_of(registry: Registry, topic: str) -> Entry:
    """A declared topic by its name.

    Raises:
        CommandError: there is none.
    """
    if topic not in registry.entries:
        raise CommandError(f"{topic} is not declared: {nearest(topic, registry.entries)}", 2)
    return registry.entries[topic]


def before(root: Path, ref: str | None, is_needed: bool) -> Before | None:
    """The folder at a commit; without one named, at the default, if there is a repository.

    Raises:
        CommandError: the commit was asked for, or is needed, and cannot be read.
    """
    try:
        found = ref or default_ref(root)
        if found is not None:
            return Before(found, tree_at(root, found))
    except (GitError, OSError) as error:
        raise CommandError(str(error), 2) from error
    if is_needed:
        raise CommandError(
            f"{root} is in no git repository that has origin/main or main: name a commit with "
            "--against REF",
            2,
        )
    return None


def today() -> date:
    """Today's date, in UTC."""
    return datetime.fromtimestamp(now_ms() / 1_000, UTC).date()


def print_json(value: Any) -> None:
    """Print one JSON document."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2, default=str)
    sys.stdout.write("\n")
