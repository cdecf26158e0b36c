"""The lint of flows: every mistake of every file at once, and what a worker would not notice.

What makes a flow unusable is found whoever reads the folder. What is added here is for a review:
cycles, fields that no schema has, patterns that can never match, words that say nothing. A rule
looks at one flow, and finds in its document.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edo_stream.flows.folder import survey_flows
from edo_stream.flows.graph import graph_of
from edo_stream.flows.in_python import files_of
from edo_stream.flows.rules.case import FlowCase, Rule
from edo_stream.flows.rules.cycles import find_cycles
from edo_stream.flows.rules.expressions import find_odd_expressions, find_unknown_names
from edo_stream.flows.rules.keys import find_unknown_keys, find_unusable_lookups
from edo_stream.flows.rules.patterns import find_patterns_that_never_match
from edo_stream.flows.rules.rivals import rival_replies
from edo_stream.flows.rules.wants import find_wants_that_say_nothing
from edo_stream.flows.saga import FOLDER as SAGAS
from edo_stream.flows.saga import survey_sagas
from edo_stream.flows.shapes import Shapes
from edo_stream.registry import Finding, Registry
from edo_stream.registry.document import Document

RULES: Sequence[Rule] = (
    find_cycles,
    find_wants_that_say_nothing,
    find_patterns_that_never_match,
    find_odd_expressions,
    find_unknown_names,
    find_unknown_keys,
    find_unusable_lookups,
)


@dataclass(frozen=True, slots=True)
class FlowReview:
    """What a lint found."""

    names: Sequence[str]
    """Flows, by the names of their files."""
    sagas: Sequence[str]
    """Sagas likewise, older versions too."""
    findings: Sequence[Finding]
    """Sorted by file and line."""


def lint(root: Path, registry: Registry, more: Sequence[Rule] = ()) -> FlowReview:
    """Review a folder of flows; ``more`` are rules that need what is not to be imported here."""
    survey = survey_flows(root, registry)
    flows, shapes = survey.flows, Shapes(registry)
    sagas = survey_sagas(root / SAGAS, registry, flows.flows.values())
    whole = replace(flows, sagas=sagas.groups, starts=sagas.starts)
    deeds = {deed.policy.flow: deed for deed, _, _ in sagas.deeds}
    graph = graph_of(registry, replace(whole, flows={**flows.flows, **deeds}))
    findings = [*survey.findings, *sagas.findings]
    for name, document in survey.documents.items():
        before = len(document.findings)
        flow, join = flows.flows.get(name), flows.joins.get(name)
        case = FlowCase(name, flow, join, document, registry, graph, shapes)
        for rule in (*RULES, *more):
            rule(case)
        findings += document.findings[before:]
    for deed, document, place in sagas.deeds:
        before = len(document.findings)
        case = FlowCase(deed.policy.flow, deed, None, document, registry, graph, shapes, place)
        for rule in (find_cycles, *more):
            rule(case)
        findings += document.findings[before:]
    findings += rival_replies(whole, survey.documents, root / SAGAS)
    names = sorted(Document(file).name for file in files_of(root, "flow"))
    of_sagas = sorted(Document(file).name for file in files_of(root / SAGAS, "saga"))
    return FlowReview(names, of_sagas, sorted(set(findings)))
