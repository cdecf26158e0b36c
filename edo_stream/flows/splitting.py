"""From how a flow splits its events, as declared, to the words of the core."""

from collections.abc import Iterable, Mapping

from edo_stream.core.facts import Make
from edo_stream.core.pieces import OnEmpty, Split
from edo_stream.core.pointer import parse_pointer
from edo_stream.flows.correlation import Join
from edo_stream.flows.declaration import FlowDeclaration, Input, SplitRules
from edo_stream.flows.flow import Flow
from edo_stream.flows.inputs import maker_of
from edo_stream.registry import Finding
from edo_stream.registry.document import Document
from edo_stream.registry.mistakes import nearest

_WAYS = ("at", "jq", "cel")


def found_split(document: Document, flow: FlowDeclaration, outcomes: str) -> Split | None:
    """Compile how a flow splits; mistakes are found in the document."""
    rules = flow.split
    if rules is None:
        return None
    if flow.when is not None:
        document.find(("split",), "split is of a flow with on: have this one emit, and split that")
    given = [name for name in _WAYS if getattr(rules, name) is not None]
    if len(given) != 1:
        document.find(("split",), f"split: write one of {', '.join(_WAYS)}, such as split: /items")
        return None
    return Split(
        outcomes=outcomes,
        at=() if rules.at is None else parse_pointer(rules.at),
        make=None if rules.at is not None else _maker(document, rules, given[0]),
        key=None if rules.key is None else parse_pointer(rules.key),
        elements_max=rules.max,
        empty=OnEmpty(rules.empty),
    )


def _maker(document: Document, rules: SplitRules, name: str) -> Make | None:
    try:
        return maker_of(Input(jq=rules.jq, cel=rules.cel))
    except ValueError as error:
        document.find(("split", name), f"split.{name}: {error}")
        return None


def odd_gatherers(
    joins: Iterable[Join], flows: Iterable[Flow], documents: Mapping[str, Document]
) -> list[Finding]:
    """Flows that gather the ends of a flow that is not there, or splits nothing."""
    splits = {flow.policy.flow: flow.split is not None for flow in flows}
    found = []
    for join in joins:
        name = join.gathers
        if name is None or splits.get(name):
            continue
        message = f"gather: {name} splits nothing, and its events have one command each"
        if name not in splits:
            known = [flow for flow, does in splits.items() if does]
            message = f"gather: no flow {name}: {nearest(name, known)}"
        line = documents[join.flow].lines.get(("when", "gather"), 1)
        found.append(Finding(join.file, line, message))
    return found
