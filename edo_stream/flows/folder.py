"""The folder of flows: every file read, every mistake of every file found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from edo_stream.flows.conditions import CANCEL_ON, cancels_of, conditions_of, found_maker, listed
from edo_stream.flows.control import check_control
from edo_stream.flows.correlation import Join
from edo_stream.flows.declaration import FlowDeclaration
from edo_stream.flows.flow import Flow, Flows, flows_of, policy_of
from edo_stream.flows.in_python import files_of, read_file
from edo_stream.flows.lookup import found_lookups, group_name
from edo_stream.flows.saga import FOLDER as SAGAS
from edo_stream.flows.saga import survey_sagas
from edo_stream.flows.splitting import found_split, odd_gatherers
from edo_stream.flows.targets import disagreements
from edo_stream.flows.waiting import (
    combining_flow,
    group_clashes,
    is_result_flow,
    result_flow,
    waiting_flow,
)
from edo_stream.registry import Finding, Registry, RegistryError
from edo_stream.registry.document import Document
from edo_stream.registry.mistakes import find_mistake, nearest


@dataclass(frozen=True, slots=True)
class FlowSurvey:
    """What a folder of flows says, and what is wrong with it."""

    flows: Flows
    """Those that can be read, whatever is wrong with others."""
    documents: Mapping[str, Document]
    """Files by the flow's name, of those that can be read."""
    findings: Sequence[Finding]
    files: int
    """How many there are."""


def load_flows(root: Path, registry: Registry) -> Flows:
    """Read every ``<root>/<name>.yaml`` and ``.py``, and all sagas; no folder means no flows.

    Raises:
        RegistryError: with every mistake of every file.
    """
    survey = survey_flows(root, registry)
    flows = survey.flows.flows.values()
    sagas = survey_sagas(root / SAGAS, registry, flows)
    if findings := [*survey.findings, *sagas.findings]:
        raise RegistryError(findings)
    return replace(
        flows_of([*flows, *sagas.flows], survey.flows.joins.values()),
        sagas=sagas.groups,
        starts=sagas.starts,
    )


def survey_flows(root: Path, registry: Registry) -> FlowSurvey:
    """Read every file, and go on after mistakes."""
    findings: list[Finding] = []
    flows: list[Flow] = []
    joins: list[Join] = []
    documents: dict[str, Document] = {}
    files = files_of(root, "flow")
    for file in files:
        document = read_file(file, "flow", root.parent)
        if is_result_flow(document):
            results = result_flow(document, registry)
            joins += results
            documents |= {join.flow: document for join in results}
            findings += document.findings
            continue
        declaration = _declaration(document)
        if declaration is not None:
            joins += waiting_flow(document, declaration, registry)
            _check(document, declaration, registry)
            wants = {} if declaration.draining else conditions_of(document, declaration)
            maker = found_maker(document, declaration)
            cancels = cancels_of(document, declaration)
            combining = combining_flow(document, declaration, (wants, maker), registry)
            if combining is not None:
                # Its events come to its commands by way of a correlation.
                joins.append(combining)
                wants, maker = {}, None
            policy = policy_of(declaration)
            split = found_split(document, declaration, policy.outcomes)
            lookups = found_lookups(document, declaration, policy.outcomes, registry)
            flows.append(Flow(policy, declaration, file, wants, maker, cancels, split, lookups))
            documents[declaration.name] = document
        findings += document.findings
    findings += _clashes(flows, registry)
    findings += group_clashes(flows, joins, registry)
    findings += disagreements(flows)
    findings += odd_gatherers(joins, flows, documents)
    return FlowSurvey(flows_of(flows, joins), documents, findings, len(files))


def _declaration(document: Document) -> FlowDeclaration | None:
    if document.findings:
        return None
    if not isinstance(document.value, dict):
        document.find((), "not a flow: write its keys, such as name: ship-order")
        return None
    listed(document)
    try:
        return FlowDeclaration.model_validate(document.value, context={"file": document.name})
    except ValidationError as error:
        for item in error.errors(include_url=False):
            find_mistake(document, item, FlowDeclaration)
        return None


def _check(document: Document, flow: FlowDeclaration, registry: Registry) -> None:
    """Find what is well formed and cannot be."""
    _check_topics(document, flow, registry)
    check_control(document, flow)
    if flow.retry.is_cut_short:
        document.find(("retry", "total"), "retry.total is shorter than the first wait")
    if flow.replies is not None and flow.split is not None:
        message = (
            "replies: an event that is split has an end for each piece: write it in a flow that "
            f"gathers them, with when: {{gather: {flow.name}}}"
        )
        document.find(("replies",), message)
    for name in ("action", "fallback"):
        action = getattr(flow, name)
        if action is None:
            continue
        if action.kind == "dapr" and (action.invoke is None) == (action.publish is None):
            document.find((name,), f"{name}: write either invoke or publish")
        if action.kind == "airflow" and (action.user is None) != (action.password is None):
            document.find((name,), f"{name}: user and password go together")
        if action.kind == "record" and action.partitions is None:
            entry = registry.entries.get(action.topic)
            if entry is None:
                message = f"{name}.topic: no contract of {action.topic}: write its partitions"
                document.find((name, "topic"), message)


def _check_topics(document: Document, flow: FlowDeclaration, registry: Registry) -> None:
    wanted = [("on", number, on) for number, on in enumerate(flow.on)]
    wanted += [(CANCEL_ON, number, on) for number, on in enumerate(flow.cancel_on)]
    for name, number, on in wanted:
        if on.topic not in registry.topics:
            message = f"{name}: no contract of {on.topic}: {nearest(on.topic, registry.topics)}"
            if on.topic in registry.entries:
                message = f"{name}: no worker reads {on.topic}: its contract has no emit"
            document.find((name, number, "topic"), message)


def _clashes(flows: list[Flow], registry: Registry) -> list[Finding]:
    """Groups that are also those of topics: their tasks would have the same names."""
    groups = registry.groups
    found = [
        Finding(flow.file, 1, f"group {flow.declaration.group} is a group of topics: take another")
        for flow in flows
        if flow.declaration.group in groups
    ]
    acting = {flow.declaration.group for flow in flows}
    for flow in flows:
        for lookup in () if flow.lookups is None else flow.lookups.lookups:
            counts = {lookup.partitions, lookup.global_partitions or lookup.partitions}
            for name in map(group_name, sorted(counts)):
                if name in groups or name in acting:
                    message = f"lookup.{lookup.name}: its tasks are group {name}: take another name"
                    message += " for the group that has it"
                    found.append(Finding(flow.file, 1, message))
    return found
