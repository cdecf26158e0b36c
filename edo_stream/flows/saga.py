"""The folder of sagas: every file read, and what it is in the words of the core.

A step is a flow of the act plane that no topic triggers: its commands are the saga's. Each version
of a saga has flows of its own, ``<saga>.v<version>.<step>``, so that running instances keep theirs;
all of them share the saga's topics of outcomes and of dead letters, which the saga reads.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from edo_stream.core.routing import Route
from edo_stream.core.saga.definition import SagaDefinition, SagaSpec, SagaStep, SagaTopics
from edo_stream.core.saga.instance import DOCUMENT_BYTES_MAX
from edo_stream.core.trigger import FlowTrigger
from edo_stream.flows.conditions import conditions_of, listed
from edo_stream.flows.declaration import FlowDeclaration
from edo_stream.flows.flow import Flow, SagaGroup, policy_of
from edo_stream.flows.in_python import files_of, read_file
from edo_stream.flows.replying import replies_by
from edo_stream.flows.saga_declaration import Deed, SagaDeclaration, StepDeclaration
from edo_stream.registry import Finding, Registry
from edo_stream.registry.declaration import Retry
from edo_stream.registry.document import Document, Place
from edo_stream.registry.mistakes import find_mistake, nearest
from edo_stream.registry.names import INTERNAL_PREFIX

FOLDER: Final = "sagas"
_VERSIONED: Final = re.compile(r"(.+)\.v([0-9]+)")
_PARTITIONS: Final = 8
_STEPS_GROUP: Final = "-steps"
_DEEDS: Final = ("action", "retry", "delivery", "concurrency", "rate", "target")


@dataclass(slots=True)
class SagaSurvey:
    """What a folder of sagas says, and what is wrong with it."""

    groups: dict[str, SagaGroup] = field(default_factory=dict)
    starts: dict[str, list[Route]] = field(default_factory=dict)
    """By topic of the events."""
    flows: list[Flow] = field(default_factory=list)
    """Of all steps and compensations."""
    deeds: list[tuple[Flow, Document, Place]] = field(default_factory=list)
    """The same flows, and where their actions stand."""
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _File:
    document: Document
    declaration: SagaDeclaration
    is_newest: bool
    """Named after the saga alone."""


def survey_sagas(root: Path, registry: Registry, flows: Iterable[Flow]) -> SagaSurvey:
    """Read every ``<name>.yaml`` and ``<name>.v<version>.yaml``, or ``.py``; no folder: none."""
    survey = SagaSurvey()
    files: list[_File] = []
    for path in files_of(root, "saga"):
        document = read_file(path, "saga", root.parent.parent)
        file = _file(document)
        if file is not None:
            _check(file, registry)
            files.append(file)
        survey.findings += document.findings
    survey.findings += _clashes(files, registry, flows)
    if not survey.findings:
        _put_together(files, survey)
        survey.findings += [finding for file in files for finding in file.document.findings]
    return survey


def _file(document: Document) -> _File | None:
    if document.findings:
        return None
    if not isinstance(document.value, dict):
        document.find((), "not a saga: write its keys, such as name: ship-order")
        return None
    listed(document)
    stem = document.name
    versioned = _VERSIONED.fullmatch(stem)
    context = {"file": versioned[1] if versioned else stem}
    try:
        declaration = SagaDeclaration.model_validate(document.value, context=context)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            find_mistake(document, item, SagaDeclaration)
        return None
    if versioned and int(versioned[2]) != declaration.version:
        message = f"version: write {versioned[2]}, as in the file's name, or rename the file"
        document.find(("version",), message)
    return _File(document, declaration, is_newest=versioned is None)


def _check(file: _File, registry: Registry) -> None:
    """Find what is well formed and cannot be."""
    document, saga = file.document, file.declaration
    for number, on in enumerate(saga.on):
        if on.topic not in registry.topics:
            message = f"on: no contract of {on.topic}: {nearest(on.topic, registry.topics)}"
            if on.topic in registry.entries:
                message = f"on: no worker reads {on.topic}: its contract has no emit"
            document.find(("on", number, "topic"), message)
    if saga.deadline == 0:
        message = "deadline is 0ms: each instance would be undone as it starts: leave deadline out"
        document.find(("deadline",), message)
    above: list[str] = []
    for number, step in enumerate(saga.steps):
        _check_step(document, number, step, above)
        above.append(step.name)
    if not document.findings:
        _check_pivot(document, saga)


def _check_step(
    document: Document, number: int, step: StepDeclaration, above: Sequence[str]
) -> None:
    place = ("steps", number)
    if step.name in above:
        document.find((*place, "name"), f"steps.{number}.name: {step.name} stands twice")
    if (step.action is None) == (step.manual is None):
        document.find(place, f"step {step.name}: write either action or manual")
    if step.timeout == 0:
        message = "timeout is 0ms: it would fail before any reply: leave timeout out"
        document.find((*place, "timeout"), f"step {step.name}: {message}")
    retries: list[tuple[tuple[str, ...], Retry]] = [(("retry", "total"), step.retry)]
    if step.compensate is not None:
        retries.append((("compensate", "retry", "total"), step.compensate.retry))
    for part, retry in retries:
        if retry.is_cut_short:
            message = f"step {step.name}: retry.total is shorter than the first wait"
            document.find((*place, *part), message)
    for index, before in enumerate(step.after or ()):
        if before not in above:
            message = f"step {step.name}: no step {before} above it: {nearest(before, above)}"
            document.find((*place, "after", index), message)


def _check_pivot(document: Document, saga: SagaDeclaration) -> None:
    """Nothing runs beside a pivot: what is undone must not wait for what cannot be."""
    pivots = [number for number, step in enumerate(saga.steps) if step.pivot]
    if not pivots:
        return
    if len(pivots) > 1:
        document.find(("steps", pivots[1], "pivot"), "pivot: only one step closes the way back")
        return
    pivot = saga.steps[pivots[0]].name
    definition = _definition(saga)
    behind = definition.descendants[pivot]
    for number, step in enumerate(saga.steps):
        is_before = pivot in definition.descendants[step.name]
        if step.name != pivot and step.name not in behind and not is_before:
            message = f"step {step.name} runs beside the pivot {pivot}: put it before or after"
            document.find(("steps", number), message)
        if step.name in behind and step.compensate is not None:
            message = f"step {step.name} comes after the pivot {pivot}: it is never undone"
            document.find(("steps", number, "compensate"), message)


def _clashes(files: Sequence[_File], registry: Registry, flows: Iterable[Flow]) -> list[Finding]:
    """Names that others have, and versions that do not follow each other."""
    flow_list = list(flows)
    names = {flow.policy.flow for flow in flow_list}
    groups = set(registry.groups) | {flow.declaration.group for flow in flow_list}
    newest = {file.declaration.name: file.declaration for file in files if file.is_newest}
    findings = []
    for file in files:
        saga, path = file.declaration, file.document.file
        told = []
        if saga.name in names:
            told.append(f"{saga.name} is the name of a flow: take another")
        if {saga.group, saga.group + _STEPS_GROUP} & groups:
            told.append(f"group {saga.group} is a group of topics or flows: take another")
        current = newest.get(saga.name)
        if current is None:
            told.append(f"no {saga.name}.yaml: the newest version has no number in its name")
        elif not file.is_newest and saga.version >= current.version:
            told.append(f"version {saga.version} is not before that of {saga.name}.yaml")
        elif saga.group != current.group:
            told.append(f"group {saga.group}: {saga.name}.yaml has {current.group}")
        findings += [Finding(path, 1, message) for message in told]
    return findings


def _put_together(files: Sequence[_File], survey: SagaSurvey) -> None:
    members: dict[str, list[_File]] = {}
    for file in files:
        members.setdefault(file.declaration.group, []).append(file)
    for group, found in sorted(members.items()):
        asked = [file.declaration.partitions for file in found if file.declaration.partitions]
        partitions = max(asked, default=_PARTITIONS)
        specs: dict[str, SagaSpec] = {}
        for file in found:
            if file.is_newest:
                name = file.declaration.name
                same = [one for one in found if one.declaration.name == name]
                specs[name] = _spec(same)
                _add_starts(file, specs[name], partitions, survey)
        survey.groups[group] = SagaGroup(group, partitions, specs)
        for file in found:
            deeds = _flows(file, partitions)
            survey.flows += [flow for flow, _ in deeds]
            survey.deeds += [(flow, file.document, place) for flow, place in deeds]


def _spec(files: Sequence[_File]) -> SagaSpec:
    versions = {file.declaration.version: _definition(file.declaration) for file in files}
    newest = next(file.declaration for file in files if file.is_newest)
    commands = {
        flow: f"{INTERNAL_PREFIX}commands.{flow}"
        for version in versions.values()
        for step in version.steps
        for flow in (step.flow, step.undo)
        if flow is not None
    }
    replies = replies_by(newest.name, newest.replies)
    return SagaSpec(newest.name, newest.owner, topics_of(newest.name), versions, commands, replies)


def topics_of(saga: str) -> SagaTopics:
    """Topics of a saga."""
    return SagaTopics(
        starts=f"{INTERNAL_PREFIX}saga-starts.{saga}",
        outcomes=f"{INTERNAL_PREFIX}outcomes.{saga}",
        dead_letters=f"{INTERNAL_PREFIX}dead-letters.{saga}",
        events=f"{INTERNAL_PREFIX}sagas.{saga}",
    )


def _definition(saga: SagaDeclaration) -> SagaDefinition:
    steps = tuple(
        SagaStep(
            name=step.name,
            flow=None if step.action is None else _flow_name(saga, step.name),
            undo=None if step.compensate is None else f"{_flow_name(saga, step.name)}.undo",
            after=_after(saga, number),
            timeout_ms=step.timeout,
            is_pivot=step.pivot,
        )
        for number, step in enumerate(saga.steps)
    )
    definition = SagaDefinition(
        saga.name,
        saga.version,
        steps,
        deadline_ms=saga.deadline,
        kept_ms=saga.keep,
        is_repeatable=saga.repeat == "after-end",
    )
    return replace(definition, digest=_digest(definition))


def _digest(definition: SagaDefinition) -> str:
    """Of what decides how an instance goes on; what its actions are may be mended."""
    meaning = [
        [step.name, step.flow is None, step.undo is None, step.after, step.is_pivot]
        for step in definition.steps
    ]
    return sha256(msgspec.json.encode(meaning)).hexdigest()[:16]


def _after(saga: SagaDeclaration, number: int) -> tuple[str, ...]:
    after = saga.steps[number].after
    if after is not None:
        return tuple(after)
    return (saga.steps[number - 1].name,) if number else ()


def _flow_name(saga: SagaDeclaration, step: str) -> str:
    return f"{saga.name}.v{saga.version}.{step}"


def _flows(file: _File, partitions: int) -> list[tuple[Flow, Place]]:
    """Flows of the steps and compensations of a version, and the place of each in the file."""
    saga = file.declaration
    flows: list[tuple[Flow, Place]] = []
    for number, step in enumerate(saga.steps):
        name, place = _flow_name(saga, step.name), ("steps", number)
        if step.action is not None:
            what = f"Step {step.name} of saga {saga.name}, version {saga.version}."
            flows.append((_flow(file, name, what, step, partitions), place))
        if step.compensate is not None:
            what = f"Undoes step {step.name} of saga {saga.name}, version {saga.version}."
            undo = _flow(file, f"{name}.undo", what, step.compensate, partitions)
            flows.append((undo, (*place, "compensate")))
    return flows


def _flow(file: _File, name: str, what: str, deed: Deed | StepDeclaration, partitions: int) -> Flow:
    saga = file.declaration
    said: dict[str, Any] = {
        key: getattr(deed, key) for key in _DEEDS if key in deed.model_fields_set
    }
    # Not validated: its name is no file's, and nothing triggers it.
    declaration = FlowDeclaration.model_construct(
        {"name", "owner", "description", "group", "partitions", *said},
        name=name,
        owner=saga.owner,
        description=what,
        on=[],
        group=saga.group + _STEPS_GROUP,
        partitions=partitions,
        **said,
    )
    topics = topics_of(saga.name)
    policy = replace(
        policy_of(declaration),
        outcomes=topics.outcomes,
        dead_letters=topics.dead_letters,
        is_awaited=True,
    )
    return Flow(policy, declaration, file.document.file)


def _add_starts(file: _File, spec: SagaSpec, partitions: int, survey: SagaSurvey) -> None:
    saga = file.declaration
    trigger = FlowTrigger(
        flow=saga.name,
        commands=spec.topics.starts,
        dead_letters=spec.topics.dead_letters,
        partitions=partitions,
        key=saga.key,
        owner=saga.owner,
        bytes_max=DOCUMENT_BYTES_MAX,
        replies=spec.replies,
    )
    conditions = conditions_of(file.document, _as_flow(saga))
    for topic, wanted in conditions.items():
        survey.starts.setdefault(topic, []).append(Route(trigger, tuple(wanted)))


def _as_flow(saga: SagaDeclaration) -> FlowDeclaration:
    return FlowDeclaration.model_construct(name=saga.name, on=saga.on)


def sagas_of(groups: Mapping[str, SagaGroup]) -> dict[str, SagaSpec]:
    """All sagas by name."""
    found = {name: spec for group in groups.values() for name, spec in group.sagas.items()}
    return dict(sorted(found.items()))
