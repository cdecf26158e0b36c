"""`edo flow lint`: every mistake of every flow at once, with file and line."""

from collections.abc import Sequence
from typing import Annotated

import typer

from edo_stream.cli.contracts_read import AsJson, load_topics, print_json
from edo_stream.cli.environment import CommandError
from edo_stream.cli.flow_actions import find_unusable_actions
from edo_stream.cli.flow_read import flows_root
from edo_stream.cli.screen import screen
from edo_stream.flows.lint import lint as review_all
from edo_stream.registry import Finding
from edo_stream.registry.document import Document
from edo_stream.registry.mistakes import nearest


def lint(
    what: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Flows; default: all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find every mistake of every flow: unknown topics and fields, cycles, what never matches.

    Exit codes: 0 no findings, 1 findings, 2 the contracts cannot be read, or no such flow.
    """
    root = flows_root()
    review = review_all(root, load_topics(), more=(find_unusable_actions,))
    wanted = what or []
    for name in wanted:
        if name not in review.names:
            raise CommandError(f"flow {name} is not declared: {nearest(name, review.names)}", 2)
    findings = [one for one in review.findings if not wanted or Document(one.file).name in wanted]
    if as_json:
        print_json(_as_json(findings, len(wanted) or len(review.names)))
    else:
        _show(findings, len(wanted) or len(review.names))
    raise typer.Exit(1 if findings else 0)


def _as_json(findings: Sequence[Finding], flows: int) -> dict[str, object]:
    return {
        "flows": flows,
        "findings": [
            {"file": str(one.file), "line": one.line, "message": one.message} for one in findings
        ],
    }


def _show(findings: Sequence[Finding], flows: int) -> None:
    console = screen()
    for finding in findings:
        console.print(str(finding), markup=False, highlight=False, soft_wrap=True)
    said = f"{len(findings):,} finding{'' if len(findings) == 1 else 's'}"
    console.print(
        f"{flows:,} flow{'' if flows == 1 else 's'}, {said if findings else 'no findings'}",
        markup=False,
    )
