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
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Flows and sagas; default: all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find every mistake of every flow: unknown topics and fields, cycles, what never matches.

    Exit codes: 0 no findings, 1 findings, 2 the contracts cannot be read, or no such flow.
    """
    root = flows_root()
    review = review_all(root, load_topics(), more=(find_unusable_actions,))
    wanted, known = what or [], [*review.names, *review.sagas]
    for name in wanted:
        if name not in known:
            raise CommandError(f"flow {name} is not declared: {nearest(name, known)}", 2)
    findings = [one for one in review.findings if not wanted or Document(one.file).name in wanted]
    flows, sagas = (
        sum(not wanted or name in wanted for name in all_) for all_ in (review.names, review.sagas)
    )
    if as_json:
        print_json(_as_json(findings, flows, sagas))
    else:
        _show(findings, flows, sagas)
    raise typer.Exit(1 if findings else 0)


def _as_json(findings: Sequence[Finding], flows: int, sagas: int) -> dict[str, object]:
    return {
        "flows": flows,
        "sagas": sagas,
        "findings": [
            {"file": str(one.file), "line": one.line, "message": one.message} for one in findings
        ],
    }


def _show(findings: Sequence[Finding], flows: int, sagas: int) -> None:
    console = screen()
    for finding in findings:
        console.print(str(finding), markup=False, highlight=False, soft_wrap=True)
    told = [_counted(flows, "flow"), *([_counted(sagas, "saga")] if sagas else [])]
    told.append(_counted(len(findings), "finding") if findings else "no findings")
    console.print(", ".join(told), markup=False)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
