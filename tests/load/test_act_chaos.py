"""The judge of the act plane's chaos: whatever is broken, it says so."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from load.act_chaos.evidence import Command, Evidence, Retry
from load.act_chaos.judge import judge, percentile
from load.act_chaos.plan import FLOWS, RETRIES, FlowPlan, Job, Jobs, Step
from load.effects import Line, Moment

SHIP, BILL, NOTE, TELL = FLOWS


def line(command: Command, moment: Moment, attempt: int, at_ms: float, flow: FlowPlan) -> Line:
    job = command.job
    return Line(moment, flow.name, command.id, command.id, job.key, job.number, attempt, at_ms, 1)


def ran(flow: FlowPlan, number: int, *steps: Step, kind: str = "done") -> Command:
    """A command that failed as it was told, waited for a second each time, and ended."""
    command = Command(f"c{number}", Job(number, "k", 1.0, list(steps)))
    at_ms = 1_000.0 * number
    for attempt in range(1, len(steps) + 1):
        command.runs.append(line(command, Moment.BEGAN, attempt, at_ms, flow))
        at_ms += 1_000
        command.retries.append(Retry(attempt + 1, at_ms, "transient"))
    command.runs.append(line(command, Moment.BEGAN, len(steps) + 1, at_ms, flow))
    command.effects.append(line(command, Moment.EFFECT, len(steps) + 1, at_ms + 1, flow))
    command.ends.append((kind, len(steps) + 1))
    return command


def evidence(flow: FlowPlan, *commands: Command) -> Evidence:
    lines = [one for command in commands for one in (*command.runs, *command.effects)]
    asked = Counter(f"{flow.name}-{command.job.number}" for command in commands)
    return Evidence(flow, {command.id: command for command in commands}, lines, asked)


def found(*flows: Evidence, applied: frozenset[str] = frozenset()) -> list[str]:
    return judge(flows, applied).findings


def test_a_run_in_which_all_is_well_has_no_findings() -> None:
    commands = [ran(SHIP, 0, Step.FAIL, Step.FAIL_AFTER), ran(SHIP, 1), ran(SHIP, 2, Step.FAIL)]

    verdict = judge([evidence(SHIP, *commands)], frozenset())

    assert [] == verdict.findings
    assert [0.0] * 3 == verdict.late_ms
    assert {"ship": {"done": 3}} == verdict.ends
    assert (3, 6, 0) == (
        verdict.tallies["ship"].commands,
        verdict.tallies["ship"].runs,
        verdict.tallies["ship"].repeated_runs,
    )


def end_twice(command: Command) -> None:
    command.ends *= 2


def end_never(command: Command) -> None:
    command.ends.clear()


def end_otherwise(command: Command) -> None:
    command.ends = [("failed", 2)]


def come_early(command: Command) -> None:
    command.retries[0].at_ms += 500


def skip_an_attempt(command: Command) -> None:
    command.ends = [("done", 3)]


def fail_of_nothing_known(command: Command) -> None:
    command.retries[0].reason = "executor-failed"


def be_announced_twice(command: Command) -> None:
    command.retries.append(command.retries[0])


def run_unannounced(command: Command) -> None:
    command.retries.clear()


def never_run(command: Command) -> None:
    del command.runs[1]


def have_no_effect(command: Command) -> None:
    command.effects.clear()


def take_another_key(command: Command) -> None:
    one = command.runs[0]
    command.runs[0] = Line(
        one.moment, one.flow, one.command, "other", one.key, one.number, 1, one.at_ms, 1
    )


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (end_twice, "has 2 ends"),
        (end_never, "has 0 ends"),
        (end_otherwise, "ended as failed by attempt 2, which was to succeed"),
        (come_early, "attempt 2 was early"),
        (skip_an_attempt, "ended by attempt 3, and failed at [1]"),
        (fail_of_nothing_known, "attempt 1 failed of executor-failed, not transient"),
        (be_announced_twice, "attempt 2 was announced twice"),
        (run_unannounced, "attempt 2 ran, which nothing announced"),
        (never_run, "attempts [2] were announced and never ran"),
        (have_no_effect, "is done without an effect"),
        (take_another_key, "ran with several idempotency keys"),
    ],
)
def test_whatever_is_broken_is_found(harm: Callable[[Command], None], says: str) -> None:
    command = ran(SHIP, 0, Step.FAIL)

    harm(command)

    assert any(says in one for one in found(evidence(SHIP, command)))


def test_an_event_without_a_command_is_found() -> None:
    one = evidence(SHIP, ran(SHIP, 0))
    one.asked["ship-1"] = 0

    assert ["event ship-1 triggered 0 commands"] == found(one)


def test_order_holds_for_flows_that_promise_it() -> None:
    swapped = [ran(SHIP, 1), ran(SHIP, 0)]
    relaxed = [ran(NOTE, 1), ran(NOTE, 0)]

    assert ["ship k: 0 after a later one"] == found(evidence(SHIP, *swapped))
    assert [] == found(evidence(NOTE, *relaxed))


def test_what_is_cut_off_and_unknown_may_have_its_effect_late() -> None:
    assert [] == found(evidence(BILL, ran(BILL, 1), ran(BILL, 0, kind="unknown")))


@pytest.mark.parametrize(
    ("flow", "step", "reason", "begun", "is_right"),
    [
        (TELL, Step.HANG_AND_DO, "timeout", 2, True),
        (TELL, Step.HANG_AND_DO, "timeout", 1, False),
        (TELL, Step.FAIL_AFTER, "connection", 2, False),
        (SHIP, Step.HANG_AND_DO, "timeout", 2, False),
    ],
)
def test_what_a_service_does_of_a_call_that_was_given_up_may_come_late(
    flow: FlowPlan, step: Step, reason: str, begun: int, is_right: bool
) -> None:
    """The first attempt hangs at the receiver, which refuses the second before it does that."""
    hung, later = ran(flow, 0, step), ran(flow, 1)
    hung.job.steps.append(Step.REFUSE)
    hung.ends = [("failed", 2)]
    hung.retries[0].reason = reason
    hung.effects = [line(hung, Moment.EFFECT, 1, 5_000.0, flow)]
    one = evidence(flow, hung, later)
    seen = hung.runs[:begun]
    one.lines[:] = [*seen, *later.runs, *later.effects, *hung.effects, *hung.runs[begun:]]

    findings = [] if is_right else [f"{flow.name} k: 0 after a later one"]
    assert findings == found(one, applied=frozenset({"c0", "c1"}))


def test_what_runs_again_after_a_crash_is_right_unless_it_may_run_once_only() -> None:
    again, once = ran(SHIP, 0), ran(BILL, 0)
    for command, flow in ((again, SHIP), (once, BILL)):
        command.runs.insert(0, line(command, Moment.BEGAN, 1, -5.0, flow))
        command.effects *= 2

    assert [] == found(evidence(SHIP, again))
    assert ["bill 0 (c0): attempt 1 ran 2 times", "bill 0 (c0) had 2 effects"] == found(
        evidence(BILL, once)
    )


def test_only_what_runs_at_most_once_may_end_unknown() -> None:
    ends = [found(evidence(flow, ran(flow, 0, kind="unknown"))) for flow in (BILL, SHIP)]

    assert [] == ends[0]
    assert 1 == len(ends[1])


def test_a_letter_comes_of_poison_or_of_the_whole_ladder() -> None:
    steps = [Step.FAIL] * RETRIES
    used_up = ran(SHIP, 0, *steps, kind="letter")
    too_soon = ran(SHIP, 1, Step.FAIL, kind="letter")

    assert [] == found(evidence(SHIP, used_up))
    assert 1 == len(found(evidence(SHIP, too_soon)))


def test_the_receiver_has_done_what_had_an_effect() -> None:
    one = evidence(TELL, ran(TELL, 0))

    assert [] == found(one, applied=frozenset({"c0"}))
    assert 1 == len(found(one))
    assert 1 == len(found(one, applied=frozenset({"c0", "c1"})))


def test_harms_may_fail_what_was_to_succeed_and_are_told_apart() -> None:
    command = ran(TELL, 0, Step.SUCCEED)
    command.retries[0].reason = "http-503"

    verdict = judge([evidence(TELL, command)], frozenset({"c0"}))

    assert [] == verdict.findings
    assert {"tell: http-503": 1} == verdict.unplanned


def test_jobs_are_decided_by_their_seed_and_crash_now_and_then() -> None:
    made = [[jobs.next() for _ in range(4_000)] for jobs in (Jobs(SHIP, 1), Jobs(SHIP, 1))]
    steps = Counter(step for job in made[0] for step in job.steps)

    assert made[0] == made[1]
    assert set(SHIP.shares) == set(steps)
    assert [Step.FAIL] * (RETRIES + 1) in [job.steps for job in made[0]]
    assert made[0] != [Jobs(replace(SHIP, name="other"), 1).next() for _ in range(4_000)]


def test_a_percentile_of_nothing_is_nothing() -> None:
    assert 0.0 == percentile([], 0.99)
    assert 3.0 == percentile([3.0, 1.0, 2.0], 0.99)
