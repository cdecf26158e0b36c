"""`edo contracts diff`: what a change breaks, by which rule, and for whom."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edo_stream.catalog.comparison import MODES
from edo_stream.catalog.difference import Difference, TopicDifference, as_json, difference
from edo_stream.catalog.lint import Before
from edo_stream.cli.contracts_read import (
    Against,
    AsJson,
    before,
    print_json,
    read_topics,
    today,
    topics_root,
)
from edo_stream.cli.environment import CommandError
from edo_stream.cli.screen import screen
from edo_stream.registry import RegistryError
from edo_stream.registry.survey import survey

_SHOWN_CHARACTERS_MAX = 60


def diff(
    topics: Annotated[
        list[str] | None, typer.Argument(metavar="[TOPIC]...", help="Default: all.")
    ] = None,
    against: Against = None,
    as_json_: AsJson = False,
) -> None:
    """Compare the contracts with those of a commit: what breaks, in which mode, and for whom.

    Exit codes: 0 nothing breaks, 1 something does, 2 the folder or the commit cannot be read.
    """
    root = topics_root()
    compared = before(root, against, is_needed=True)
    assert isinstance(compared, Before)
    tree = read_topics(root)
    unusable = survey(tree.documents).findings
    if unusable:
        raise CommandError(f"{RegistryError(unusable)}\nmend these before comparing", 2)
    found = difference(tree, compared, today())
    if topics:
        chosen = tuple(topic for topic in found.topics if topic.topic in topics)
        found = Difference(found.ref, chosen)
    if as_json_:
        print_json(as_json(found))
    else:
        _show(found)
    raise typer.Exit(1 if found.is_breaking else 0)


def _show(found: Difference) -> None:
    console = screen()
    if not found.topics:
        console.print(f"nothing differs from {found.ref}", markup=False)
        return
    _show_changes(console, found)
    _show_versions(console, found)
    for topic in found.topics:
        _show_people(console, topic)
    breaking = sum(1 for topic in found.topics if topic.is_breaking)
    console.print(
        f"topics that differ from {found.ref}: {len(found.topics):,}; that break something: "
        f"{breaking:,}",
        markup=False,
    )


def _show_changes(console: Console, found: Difference) -> None:
    table = Table("topic", "what", "before", "after", "breaks", show_lines=False)
    for topic in found.topics:
        if topic.state == "added":
            table.add_row(Text(topic.topic), "", "", "added", "")
        for change in topic.changes:
            table.add_row(
                Text(topic.topic),
                Text(change.path or "topic"),
                _cell(change.before),
                _cell(change.after),
                Text(change.breaks or "", style="red"),
            )
    if table.row_count:
        console.print(table)


def _show_versions(console: Console, found: Difference) -> None:
    table = Table("topic", "version", "declared mode", *(_short(mode) for mode in MODES))
    lines = []
    for topic in found.topics:
        for verdict in topic.verdicts:
            marks = ("yes" if verdict.modes[mode] else "no" for mode in MODES)
            table.add_row(Text(topic.topic), f"v{verdict.version}", verdict.mode, *marks)
            if verdict.is_edited:
                lines.append(
                    f"{topic.topic} v{verdict.version} was edited after it was published: "
                    "write a new version"
                )
            for against, one in verdict.breaks:
                lines.append(
                    f"{topic.topic} v{verdict.version} {one.direction} against v{against}: "
                    f"{one.pointer or '/'}: {one.message} [{one.rule}]"
                )
    if table.row_count:
        console.print(table)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _short(mode: str) -> str:
    return mode.replace("_TRANSITIVE", " all")


def _show_people(console: Console, topic: TopicDifference) -> None:
    for broken in topic.broken:
        owner = "" if broken.owner is None else f" (ask {broken.owner})"
        line = f"{topic.topic}: consumer {broken.consumer} breaks: {broken.why}{owner}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for name in topic.missing:
        line = f"{topic.topic}: the sunset is not acknowledged by consumer {name}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _cell(value: object) -> Text:
    if value is None:
        return Text("")
    text = str(value)
    return Text(text if len(text) <= _SHOWN_CHARACTERS_MAX else text[:57] + "…")
