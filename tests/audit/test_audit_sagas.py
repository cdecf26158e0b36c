"""The audit of sagas: over random histories of a task, and over ones that were spoilt."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from edo_stream.core.effects import Publish
from edo_stream.core.saga.instance import SagaStatus
from edo_stream.observe.audit.report import Findings, Instances, Place, Problem
from edo_stream.observe.audit.sagas import SagaAudit
from tests.saga.test_histories import History
from tests.saga.world import World


def audited(
    world: World,
    published: list[Publish],
    deleted_ms: dict[str, float] | None = None,
    first: int = 0,
) -> tuple[Instances, dict[Problem, int]]:
    """``first`` is that of the events that retention has left."""
    topics, findings = world.spec.topics, Findings(100)
    audit = SagaAudit("app", [world.spec], findings)
    if first:
        audit.events_deleted(topics.events)
    starts = world.logs[topics.starts]
    for record in starts:
        audit.start(record.headers, Place(record.topic, 0, record.offset))
    events = [one for one in published if one.topic == topics.events][first:]
    for number, one in enumerate(events):
        audit.event(one.value, Place(one.topic, 0, number), is_firm=True)
    for number, one in enumerate(published):
        if one.topic in world.spec.commands.values():
            audit.command(one.headers, Place(one.topic, 0, number))
    known = {change["instance"] for change in map(_data, events) if change["number"] == 1}
    emitted = [
        Place(one.topic, 0, one.offset)
        for one in starts
        if audit._starts[Place(one.topic, 0, one.offset)][1] in known
    ]
    found = audit.conclude(emitted, deleted_ms or {})
    return found[world.spec.name], dict(findings.counts)


def _data(one: Publish) -> Any:
    return json.loads(one.value or b"")


def played(seed: int) -> World:
    history = History(seed)
    history.run()
    return history.world


@pytest.mark.parametrize("seed", range(120))
def test_whatever_happens_to_sagas_they_add_up(seed: int) -> None:
    world = played(seed)
    found, problems = audited(world, world.published)
    assert {} == problems
    rows = world.folded().values()
    expected = Counter(
        "stuck" if row.stuck and not row.status.is_over else row.status.value for row in rows
    )
    # What is forgotten, or began anew, is among the instances too.
    assert found.instances >= len(rows)
    for status in SagaStatus:
        assert getattr(found, status.value) >= expected[status.value]


Spoil = Callable[[World, list[Publish]], list[Publish]]


def _without(index: int, published: list[Publish]) -> list[Publish]:
    return [*published[:index], *published[index + 1 :]]


def _first(world: World, published: list[Publish], *changes: str) -> int:
    return next(
        index
        for index, one in enumerate(published)
        if one.topic == world.spec.topics.events
        and _data(one)["change"] in changes
        and _data(one).get("command", "none") != ""
    )


def _first_command(world: World, published: list[Publish]) -> int:
    topics = world.spec.commands.values()
    return next(index for index, one in enumerate(published) if one.topic in topics)


@pytest.mark.parametrize(
    ("spoil", "problems"),
    [
        (
            lambda world, all_: _without(_first_command(world, all_), all_),
            {Problem.MISSING_COMMAND},
        ),
        (
            lambda world, all_: [*all_, all_[_first_command(world, all_)]],
            {Problem.REPEATED_COMMAND},
        ),
        (
            lambda world, all_: _without(_first(world, all_, "step-sent"), all_),
            {Problem.MISSING_CHANGE, Problem.UNEXPECTED_COMMAND},
        ),
        (
            lambda world, all_: [*all_, all_[_first(world, all_, "started")]],
            {Problem.REPEATED_CHANGE},
        ),
    ],
)
def test_what_is_lost_or_twice_is_found(spoil: Spoil, problems: set[Problem]) -> None:
    found = 0
    for seed in range(60):
        world = played(seed)
        try:
            spoilt = spoil(world, world.published)
        except StopIteration:
            continue
        found += 1
        assert problems == set(audited(world, spoilt)[1])
    assert found > 20


def test_an_instance_that_has_ended_does_not_end_again() -> None:
    found = 0
    for seed in range(60):
        world = played(seed)
        topic = world.spec.topics.events
        last = {_data(one)["instance"]: one for one in world.published if one.topic == topic}
        for one in last.values():
            if _data(one)["change"] == "completed":
                found += 1
                again = {**_data(one), "number": _data(one)["number"] + 1}
                spoilt = Publish(
                    topic, 0, one.key, json.dumps(again).encode(), one.headers, one.timestamp_ms
                )
                problems = audited(world, [*world.published, spoilt])[1]
                assert {Problem.SECOND_END: 1} == problems
    assert found > 3


def test_a_start_without_an_instance_is_found() -> None:
    world = played(1)
    audit = SagaAudit("app", [world.spec], findings := Findings(10))
    record = world.logs[world.spec.topics.starts][0]
    at = Place(record.topic, 0, record.offset)
    audit.start(record.headers, at)
    audit.conclude([at], {})
    assert {Problem.MISSING_INSTANCE: 1} == dict(findings.counts)


@pytest.mark.parametrize("seed", range(20))
def test_what_retention_has_deleted_is_not_missed(seed: int) -> None:
    world = played(seed)
    commands = world.spec.commands.values()
    kept = [one for one in world.published if one.topic not in commands]
    assert {} == audited(world, kept, dict.fromkeys(commands, float("inf")))[1]
    assert {} == audited(world, world.published, first=7)[1]
