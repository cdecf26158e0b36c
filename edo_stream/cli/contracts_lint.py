"""`edo contracts lint`: every mistake of every contract and of the files beside it, at once."""

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from edo_stream.catalog.case import Case
from edo_stream.catalog.lint import Review
from edo_stream.catalog.lint import lint as review_all
from edo_stream.cli.contracts_decode import reader_of
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
from edo_stream.registry.contracts import FILE_NAME
from edo_stream.registry.finding import Finding
from edo_stream.registry.mistakes import nearest


def lint(
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TOPIC]...", help="Topics to show; default: all of EDO_TOPICS."),
    ] = None,
    against: Against = None,
    as_json: AsJson = False,
) -> None:
    """Find every mistake of every contract, schema and example, with file and line.

    Schema files that are in the commit must be unchanged here.

    Exit codes: 0 no findings, 1 findings, 2 the folder or the commit cannot be read.
    """
    root, topics = _wanted(what or [])
    tree = read_topics(root)
    compared = before(root, against, is_needed=False)
    with _without_collections():
        review = review_all(tree, today(), compared, more=(find_unreadable_examples,))
    unknown = [topic for topic in topics if topic not in tree.files]
    if unknown:
        raise CommandError(f"{unknown[0]} is not declared: {nearest(unknown[0], tree.files)}", 2)
    findings = [
        finding
        for finding in review.findings
        if not topics or finding.file.relative_to(root).parts[0] in topics
    ]
    if as_json:
        print_json(_as_json(findings, review, None if compared is None else compared.ref))
    else:
        _show(findings, len(topics) or len(tree.files))
    raise typer.Exit(1 if findings else 0)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Nothing here is garbage before the end, and looking for it takes a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _wanted(what: Sequence[str]) -> tuple[Path, list[str]]:
    """The folder of topics, and the topics of it to show; a folder may be named by its path."""
    if len(what) == 1 and Path(what[0]).is_dir() and not (Path(what[0]) / FILE_NAME).exists():
        return Path(what[0]), []
    return topics_root(), [Path(name).name for name in what]


def find_unreadable_examples(case: Case) -> None:
    """A valid example is an event by the codec that will read it."""
    try:
        unreadable = reader_of(case.declaration)
    except ValueError as error:
        case.find(("mapping",), str(error))
        return
    for example in case.folder.examples:
        if not example.is_valid:
            continue
        try:
            document = json.loads(example.content)
        except (ValueError, RecursionError):
            continue
        why = unreadable(document)
        if why is not None:
            case.find_in(example.name, f"is no event by its contract: {why}")


def _as_json(findings: Sequence[Finding], review: Review, ref: str | None) -> dict[str, object]:
    return {
        "topics": len(review.survey.documents),
        "against": ref,
        "findings": [
            {"file": str(finding.file), "line": finding.line, "message": finding.message}
            for finding in findings
        ],
    }


def _show(findings: Sequence[Finding], topics: int) -> None:
    """A line each, as compilers write them: editors lead to the place."""
    console = screen()
    for finding in findings:
        console.print(str(finding), markup=False, highlight=False, soft_wrap=True)
    found = _counted(len(findings), "finding") if findings else "no findings"
    console.print(f"{_counted(topics, 'topic')}, {found}", markup=False)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
