"""The audit of commands: over random histories of a task, and over ones that were tampered with."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec
import pytest

from edo_stream.core.act.outcome import Done
from edo_stream.core.record import StoredRecord
from edo_stream.observe.audit.application import Audit
from edo_stream.observe.audit.evidence import Bounds, Closing
from edo_stream.observe.audit.report import Commands, Findings, Place, Problem, Report
from tests.act.world import (
    BUSINESS,
    CONTROL,
    INTERNAL,
    PARTITION,
    POISON,
    THROTTLED,
    TIERS,
    TRANSIENT,
    History,
    World,
    policy,
    spec,
)

Logs = dict[str, Sequence[StoredRecord]]
SHIP, OUTCOMES, LETTERS = "edo.commands.ship", "edo.outcomes.ship", "edo.dead.ship"
FIRST_TIER = TIERS[1_000]


def logs_of(world: World) -> Logs:
    return {topic: list(log) for topic, log in world.logs.items()}


def audited(
    logs: Logs,
    positions: Mapping[str, int],
    deleted_before: Mapping[Problem, int] | None = None,
) -> Report:
    flows = {topic.rpartition(".")[2]: topic for topic in positions if ".commands." in topic}
    audit = Audit("app", [*positions], Findings(20), flows, TIERS.values())
    for topic, committed in positions.items():
        log = logs.get(topic, ())
        end = log[-1].offset + 1 if log else 0
        audit.source(topic, PARTITION, Bounds(0, committed, max(end, committed)))
    _take(audit, logs, positions)
    for problem, at_ms in (deleted_before or {}).items():
        audit.deleted_before([*positions], PARTITION, problem, at_ms)
    return audit.conclude({(topic, PARTITION): Closing(0, True) for topic in positions}, True)


def _take(audit: Audit, logs: Logs, positions: Mapping[str, int]) -> None:
    for one in logs[INTERNAL.accounts]:
        audit.account(one.value, Place(one.topic, one.partition, one.offset), is_firm=True)
    for topic in positions:
        audit.records(topic, PARTITION, [one.offset for one in logs.get(topic, ())])
    for topic in TIERS.values():
        for one in logs.get(topic, ()):
            audit.retries(Place(topic, PARTITION, one.offset), one.timestamp, one.headers)
    for topic, log in logs.items():
        for one in log:
            if topic.startswith("edo.outcomes."):
                audit.outcome(one.headers, Place(topic, PARTITION, one.offset))
            elif topic.startswith("edo.dead"):
                audit.command_letter(one.headers, Place(topic, PARTITION, one.offset))


def of_world(world: World) -> Report:
    return audited(logs_of(world), world.pipeline.positions())


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_to_a_task_its_commands_add_up(seed: int) -> None:
    history = History(seed, pauses=0.2 if seed % 2 else 1.5)
    history.play(seed * 3)
    world = history.world

    report = of_world(world)

    assert report.findings == ()
    sent = Counter(flow for flow, _ in history.sent.values())
    assert sent == Counter({flow: one.commands for flow, one in report.flows.items()})
    ended = {
        flow: one.commands - one.waiting - one.parked - one.pending - one.unresolved
        for flow, one in report.flows.items()
    }
    assert sent == Counter(ended), "all has come to rest"


@pytest.mark.parametrize("seed", range(60))
def test_a_task_that_is_in_the_middle_of_its_work_adds_up(seed: int) -> None:
    history = History(1_000 + seed)
    moves = [history.send, history.turn, history.start, history.end, history.pass_time]
    for _ in range(30 + seed):
        history.chance.choices(moves, [4, 8, 6, 6, 1])[0]()
    assert of_world(history.world).findings == ()


def test_a_retry_that_is_due_while_its_flow_is_paused_is_parked() -> None:
    world = World(spec(policy()))
    for key in ("a", "b"):
        world.send(key, key)
        world.settle()
        world.run(TRANSIENT)
    world.ask("flow.pause", "")
    world.settle()
    assert 2 == of_world(world).flows["ship"].waiting
    world.now_ms += 1_000
    world.settle()
    report = of_world(world)
    assert (2, 0, 2) == standing(report)
    world.ask("flow.resume", "")
    world.settle()
    assert {"a", "b"} == {world.run(Done()), world.run(TRANSIENT)}
    assert (2, 1, 0) == standing(of_world(world))
    assert 1 == of_world(world).flows["ship"].done


def standing(report: Report) -> tuple[int, int, int]:
    """Commands of a flow: all, those on a tier, and those parked; there are no findings."""
    assert report.findings == ()
    ship = report.flows["ship"]
    return ship.commands, ship.waiting, ship.parked


def one_of_each() -> World:
    """Commands with every end, each in a key of its own."""
    world = World(spec(policy()))
    for key, outcomes in {
        "done": [Done()],
        "again": [TRANSIENT, Done()],
        "twice": [TRANSIENT, THROTTLED, Done()],
        "failed": [BUSINESS],
        "poison": [POISON],
        "given-up": [TRANSIENT] * 4,
        "waits": [TRANSIENT],
    }.items():
        world.send(key, key)
        world.settle()
        for number, outcome in enumerate(outcomes):
            if number:
                due_ms = world.pipeline.next_due_ms()
                assert due_ms
                world.now_ms = due_ms
                world.settle()
            assert world.run(outcome) == key
    # Behind the one that waits; its record is read and parked.
    world.send("parked", "waits")
    world.settle()
    world.send("in hand", "slow")
    world.step()
    return world


def test_the_ends_of_a_flow_that_is_gone_are_not_missed_on_the_tiers_of_others() -> None:
    world = one_of_each()
    positions = world.pipeline.positions()
    told = {topic: log for topic, log in logs_of(world).items() if topic not in (OUTCOMES, LETTERS)}
    del positions[SHIP]

    report = audited(told, positions)

    assert ({}, {"ship": 3}) == (dict(report.counts), report.not_declared)


def test_commands_are_counted_by_the_end_that_they_came_to() -> None:
    world = one_of_each()
    report = of_world(world)
    assert report.findings == ()
    assert report.flows["ship"] == Commands(
        done=3, failed=1, dead_lettered=2, waiting=1, parked=1, pending=1
    )
    assert report.tallies[SHIP].retried == 4
    assert report.as_dict()["flows"] == {
        "ship": {"commands": 9, **msgspec.to_builtins(report.flows["ship"])}
    }


def test_an_operator_drops_a_command_and_its_retry_is_explained() -> None:
    world = one_of_each()
    world.ask("retry.drop", "waits")
    world.settle()
    report = of_world(world)
    assert (report.findings, report.flows["ship"].dropped) == ((), 1)


def without(logs: Logs, topic: str, index: int) -> None:
    logs[topic] = [one for number, one in enumerate(logs[topic]) if number != index]


def again(logs: Logs, topic: str, index: int) -> None:
    last = logs[topic][-1]
    logs[topic] = [
        *logs[topic],
        msgspec.structs.replace(logs[topic][index], offset=last.offset + 1),
    ]


def retold(logs: Logs, topic: str, index: int, kind: bytes) -> None:
    one = logs[topic][index]
    headers = tuple((name, kind if name == "ce_type" else value) for name, value in one.headers)
    log = [*logs[topic]]
    log[index] = msgspec.structs.replace(one, headers=headers)
    logs[topic] = log


#: Outcomes are those of done, again, twice, failed; letters those of poison and given-up.
WRONG: dict[str, tuple[Callable[[Logs], None], dict[Problem, int]]] = {
    "the outcome of a command is gone": (
        lambda logs: without(logs, OUTCOMES, 0),
        {Problem.MISSING_OUTCOME: 1},
    ),
    "the outcome of a command that was retried is gone": (
        lambda logs: without(logs, OUTCOMES, 2),
        {Problem.MISSING_OUTCOME: 1},
    ),
    "an outcome is there twice": (
        lambda logs: again(logs, OUTCOMES, 0),
        {Problem.REPEATED_OUTCOME: 1},
    ),
    "that of a command that was retried is there twice": (
        lambda logs: again(logs, OUTCOMES, 1),
        {Problem.REPEATED_OUTCOME: 1},
    ),
    "what was done is said to have failed": (
        lambda logs: retold(logs, OUTCOMES, 0, b"edo.ship.failed"),
        {Problem.UNEXPECTED_OUTCOME: 1},
    ),
    "an outcome of no kind": (
        lambda logs: retold(logs, OUTCOMES, 0, b"edo.ship.odd"),
        {Problem.UNEXPLAINED: 1, Problem.MISSING_OUTCOME: 1},
    ),
    "a retry was lost": (
        # Of the one that waits: nothing else knows of it any more.
        lambda logs: without(logs, FIRST_TIER, 3),
        {Problem.MISSING_RETRY: 1},
    ),
    "a retry is there that was run": (
        lambda logs: without(logs, FIRST_TIER, 0),
        {Problem.NO_RECORD: 1, Problem.MISSING_RETRY: 1, Problem.UNEXPECTED_OUTCOME: 1},
    ),
    "the dead letter of a poison command is gone": (
        lambda logs: without(logs, LETTERS, 0),
        {Problem.MISSING_DEAD_LETTER: 1},
    ),
    "that of a command that was retried is gone": (
        lambda logs: without(logs, LETTERS, 1),
        {Problem.MISSING_DEAD_LETTER: 1},
    ),
    "a dead letter is there twice": (
        lambda logs: again(logs, LETTERS, 1),
        {Problem.REPEATED_DEAD_LETTER: 1},
    ),
    "a command is gone that was run": (
        lambda logs: without(logs, SHIP, 0),
        {Problem.NO_RECORD: 1, Problem.UNEXPECTED_OUTCOME: 1},
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_was_tampered_with_is_found(name: str) -> None:
    world = one_of_each()
    logs = logs_of(world)
    make_wrong, expected = WRONG[name]
    make_wrong(logs)
    assert dict(audited(logs, world.pipeline.positions()).counts) == expected


def test_a_command_that_ended_and_is_on_a_tier_all_the_same_is_found() -> None:
    world = one_of_each()
    logs = logs_of(world)
    # The record that waits names another origin: that of the command that is done.
    waiting = logs[FIRST_TIER][-1]
    origin = f"{SHIP}/{PARTITION}/0".encode()
    headers = tuple(
        (name, origin if name == "edo-origin" else value) for name, value in waiting.headers
    )
    moved = msgspec.structs.replace(waiting, headers=headers)
    logs[FIRST_TIER] = [*logs[FIRST_TIER][:-1], moved]
    counts = audited(logs, world.pipeline.positions()).counts
    assert counts == {Problem.MISSING_RETRY: 1}
    report = audited(logs, {**world.pipeline.positions(), FIRST_TIER: moved.offset + 1})
    assert Problem.UNACCOUNTED in report.counts


def test_two_ends_of_a_command_that_still_waits_are_found() -> None:
    world = one_of_each()
    logs = logs_of(world)
    origin = next(value for name, value in logs[FIRST_TIER][-1].headers if name == "edo-origin")
    for _ in range(2):
        again(logs, OUTCOMES, 0)
        one = logs[OUTCOMES][-1]
        headers = tuple((n, origin if n == "edo-origin" else v) for n, v in one.headers)
        logs[OUTCOMES] = [*logs[OUTCOMES][:-1], msgspec.structs.replace(one, headers=headers)]
    counts = audited(logs, world.pipeline.positions()).counts
    assert counts == {Problem.REPEATED_OUTCOME: 1}


def test_what_retention_has_taken_is_not_missed_but_what_came_after_is() -> None:
    world = one_of_each()
    logs = logs_of(world)
    without(logs, OUTCOMES, 0)
    day_ms = 86_400_000
    long_after = {Problem.MISSING_OUTCOME: world.now_ms}
    long_before = {Problem.MISSING_OUTCOME: world.now_ms - 2 * day_ms}
    positions = world.pipeline.positions()
    report = audited(logs, positions, long_after)
    assert (report.findings, report.tallies[SHIP].not_auditable) == ((), 1)
    assert audited(logs, positions, long_before).counts == {Problem.MISSING_OUTCOME: 1}


def test_an_event_without_a_key_that_never_became_a_command_is_no_end() -> None:
    world = one_of_each()
    logs = logs_of(world)
    again(logs, LETTERS, 0)
    headers = (("edo-app", b"app"), ("edo-position", b"shop.order.placed/0/7"))
    log = logs[LETTERS]
    logs[LETTERS] = [*log[:-1], msgspec.structs.replace(log[-1], headers=headers)]
    assert audited(logs, world.pipeline.positions()).findings == ()


def test_fates_of_commands_have_columns_of_their_own() -> None:
    tally = of_world(one_of_each()).tallies[SHIP]
    assert (tally.emitted, tally.failed, tally.dead_lettered, tally.skipped) == (1, 1, 1, 0)
    assert of_world(one_of_each()).tallies[CONTROL].records == 0
