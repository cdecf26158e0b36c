"""What becomes of a saga, one rule at a time."""

import itertools
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from edo_stream.core.accounts import Account
from edo_stream.core.saga.instance import RESULT_BYTES_MAX, SagaStatus, StepStatus
from edo_stream.core.saga.pipeline import unknown_versions
from edo_stream.core.state import Table
from tests.saga.world import (
    INTERNAL,
    START_MS,
    TOPICS,
    World,
    chain,
    definition,
    judge,
    spec,
    statuses,
    step,
)

DIAMOND = (step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"))
MANUAL = (
    step("a"),
    step("approve", "a", flow=None, undo=False, timeout_ms=5_000),
    step("b", "approve"),
)


def world(*steps: Any, **rest: Any) -> World:
    return World(spec(definition(*(steps or chain("a", "b", "c")), **rest)))


def started(*steps: Any, **rest: Any) -> World:
    saga = world(*steps, **rest)
    saga.send("o1")
    saga.settle()
    return saga


def test_steps_run_one_after_the_other_with_what_those_before_returned() -> None:
    saga = started()
    saga.reply("a", result={"stock": 7})
    saga.reply("b", result=[1, 2])
    saga.reply("c")
    assert ["a", "b", "c"] == saga.sent()
    expected = {
        "saga": "ship",
        "version": 1,
        "instance": saga.row().id,
        "key": "k",
        "step": "c",
        "attempt": 1,
        "event": {"order": "o1"},
        "results": {"a": {"stock": 7}, "b": [1, 2]},
    }
    assert expected == saga.commands[2].data
    assert SagaStatus.COMPLETED is saga.row().status
    assert "completed" == saga.kinds()[-1]
    judge(saga)


def test_a_failure_undoes_what_is_done_in_reverse_order_with_its_results() -> None:
    saga = started()
    saga.reply("a", result="A")
    saga.reply("b", result="B")
    saga.reply("c", "failed", reason="no-parcel")
    assert ["a", "b", "c", "b.undo"] == saga.sent()
    assert ("B", {"a": "A", "b": "B"}) == (
        saga.commands[3].data["result"],
        saga.commands[3].data["results"],
    )
    saga.reply("b.undo")
    saga.reply("a.undo")
    assert "A" == saga.commands[4].data["result"]
    row = saga.row()
    assert (SagaStatus.COMPENSATED, "c: no-parcel") == (row.status, row.reason)
    judge(saga)


def test_branches_run_side_by_side_and_are_undone_so() -> None:
    saga = started(*DIAMOND)
    saga.reply("a")
    assert ["a", "b", "c"] == saga.sent()
    saga.reply("b")
    saga.reply("c")
    saga.reply("d", "refused")
    assert {"b.undo", "c.undo"} == {command.flow for command in saga.open}
    saga.reply("c.undo")
    assert "a.undo" not in saga.sent()
    saga.reply("b.undo")
    saga.reply("a.undo")
    assert SagaStatus.COMPENSATED is saga.row().status
    judge(saga)


def test_a_branch_that_is_out_when_another_fails_is_waited_for_and_then_undone() -> None:
    saga = started(*DIAMOND)
    saga.reply("a")
    saga.reply("b", "failed")
    assert ["a", "b", "c"] == saga.sent()
    assert SagaStatus.COMPENSATING is saga.row().status
    saga.reply("c")
    saga.reply("c.undo")
    saga.reply("a.undo")
    assert "d" not in saga.sent()
    judge(saga)


@pytest.mark.parametrize(
    ("kind", "undone"), [("failed", 0), ("refused", 0), ("exhausted", 1), ("unknown", 1)]
)
def test_what_may_have_happened_is_undone_and_what_has_not_is_not(kind: str, undone: int) -> None:
    saga = started()
    saga.reply("a", kind)
    assert undone == saga.sent().count("a.undo")
    if undone:
        assert saga.commands[-1].data["result"] is None
        saga.reply("a.undo")
    assert SagaStatus.COMPENSATED is saga.row().status
    judge(saga)


def test_a_late_reply_turns_back_and_its_step_is_undone_only_once_it_has_ended() -> None:
    saga = started(*chain("a", "b", timeout_ms=1_000))
    saga.reply("a")
    saga.now_ms += 1_000
    saga.settle()
    row = saga.row()
    assert (SagaStatus.COMPENSATING, "b: timeout", "") == (row.status, row.reason, row.stuck)
    assert ["a", "b"] == saga.sent(), "b may still happen: a is not undone before"
    saga.reply("b", result="late")
    assert "late" == saga.commands[-1].data["result"]
    saga.reply("b.undo")
    saga.reply("a.undo")
    assert SagaStatus.COMPENSATED is saga.row().status
    judge(saga)


def test_a_reply_that_lies_unread_is_not_overdue() -> None:
    saga = started(*chain("a", timeout_ms=1_000))
    (command,) = saga.open
    saga.now_ms += 60_000
    saga.commit(saga.step([], caught_up_ms=START_MS))
    assert SagaStatus.RUNNING is saga.row().status
    saga.end(command, "done")
    saga.settle()
    assert SagaStatus.COMPLETED is saga.row().status


def test_the_whole_has_a_deadline() -> None:
    saga = started(deadline_ms=10_000)
    saga.reply("a")
    saga.now_ms += 10_000
    saga.settle()
    assert (SagaStatus.COMPENSATING, "deadline") == (saga.row().status, saga.row().reason)
    saga.reply("b", "failed")
    saga.reply("a.undo")
    assert SagaStatus.COMPENSATED is saga.row().status
    judge(saga)


def pivoted() -> World:
    return started(
        step("a"), step("pay", "a", is_pivot=True, timeout_ms=1_000), step("mail", "pay")
    )


def test_behind_the_pivot_a_failure_waits_for_a_person_and_is_sent_again() -> None:
    saga = pivoted()
    saga.reply("a")
    saga.reply("pay")
    saga.reply("mail", "exhausted")
    row = saga.row()
    assert (SagaStatus.RUNNING, "mail: no") == (row.status, row.stuck)
    saga.ask("saga.compensate")
    saga.settle()
    assert "there is no way back" in refusals(saga)[-1]
    saga.ask("saga.retry")
    saga.settle()
    first, again = [command for command in saga.commands if command.flow == "mail"]
    assert first.id != again.id
    assert (2, "") == (again.data["attempt"], saga.row().stuck)
    saga.reply("mail")
    assert SagaStatus.COMPLETED is saga.row().status
    judge(saga)


def test_while_the_pivot_is_out_nothing_is_undone() -> None:
    saga = pivoted()
    saga.reply("a")
    saga.now_ms += 1_000
    saga.settle()
    assert (SagaStatus.RUNNING, "pay: timeout") == (saga.row().status, saga.row().stuck)
    saga.ask("saga.compensate")
    saga.settle()
    assert "pay is on its way" in refusals(saga)[-1]
    saga.reply("pay")
    assert ("", "mail") == (saga.row().stuck, saga.sent()[-1])
    assert {"stuck", "resumed"} <= set(saga.kinds())


def test_a_pivot_that_nobody_is_sure_of_is_for_a_person_to_decide() -> None:
    saga = pivoted()
    saga.reply("a")
    saga.reply("pay", "exhausted")
    assert (SagaStatus.RUNNING, "pay: no") == (saga.row().status, saga.row().stuck)
    saga.ask("saga.compensate", reason="the bank says no")
    saga.settle()
    saga.reply("pay.undo")
    saga.reply("a.undo")
    assert (SagaStatus.COMPENSATED, "the bank says no") == (saga.row().status, saga.row().reason)


def test_a_compensation_that_fails_waits_for_a_person() -> None:
    saga = started()
    saga.reply("a")
    saga.reply("b", "failed")
    saga.reply("a.undo", "exhausted")
    row = saga.row()
    assert (SagaStatus.COMPENSATING, "a is not undone: no") == (row.status, row.stuck)
    saga.ask("saga.retry", step="a")
    saga.settle()
    saga.reply("a.undo")
    assert (SagaStatus.COMPENSATED, "") == (saga.row().status, saga.row().stuck)
    judge(saga)


def test_a_dead_letter_that_is_sent_again_counts_when_it_is_done_after_all() -> None:
    saga = started()
    saga.reply("a")
    (command,) = saga.open
    saga.reply("b", "exhausted")
    saga.reply("b.undo")
    saga.reply("a.undo")
    assert SagaStatus.COMPENSATED is saga.row().status
    saga.end(command, "done", "after all")
    saga.settle()
    assert SagaStatus.COMPENSATING is saga.row().status
    saga.reply("b.undo")
    assert "after all" == saga.commands[-1].data["result"]
    assert SagaStatus.COMPENSATED is saga.row().status
    judge(saga)


def test_replies_that_come_twice_or_are_of_nobody_change_nothing() -> None:
    saga = started()
    (command,) = saga.open
    saga.reply("a")
    before = statuses(saga.row())
    saga.end(command, "done")
    saga.end(command, "failed")
    saga.end(replace(command, key=b"other"), "done")
    saga.end(replace(command, id="strange"), "done")
    saga.end(replace(command, flow="unheard"), "done")
    saga.settle()
    assert before == statuses(saga.row())
    assert 3 == saga.kinds().count("late-reply")
    assert ["a", "b"] == saga.sent()
    assert {"e": 1, "l": 4, "i": 1} == fates(saga, TOPICS.outcomes)


def test_a_reply_of_an_attempt_before_does_not_count_for_the_one_that_is_out() -> None:
    saga = pivoted()
    saga.reply("a")
    saga.reply("pay")
    (first,) = saga.open
    saga.reply("mail", "exhausted")
    saga.ask("saga.retry")
    saga.settle()
    saga.end(first, "failed")
    saga.settle()
    assert (StepStatus.SENT, "") == (saga.row().steps["mail"].status, saga.row().stuck)
    assert "late-reply" == saga.kinds()[-1]


def test_a_dead_letter_of_an_attempt_before_counts_when_it_is_done_after_all() -> None:
    """Of the pivot: there is no way back then, whatever its last attempt has come to."""
    saga = pivoted()
    saga.reply("a")
    (first,) = saga.open
    saga.reply("pay", "exhausted")
    saga.ask("saga.retry")
    saga.settle()
    saga.reply("pay", "exhausted")
    assert "pay: no" == saga.row().stuck
    saga.end(first, "done", "after all")
    saga.settle()
    row = saga.row()
    assert (StepStatus.DONE, "") == (row.steps["pay"].status, row.stuck)
    saga.ask("saga.compensate")
    saga.settle()
    assert "pay is done: there is no way back" in refusals(saga)[-1]
    saga.end(first, "done", "again")
    saga.settle()
    assert "late-reply" == saga.kinds()[-1]
    saga.reply("mail")
    assert SagaStatus.COMPLETED is saga.row().status
    judge(saga)


def test_an_attempt_before_that_is_done_counts_if_the_one_that_is_out_fails() -> None:
    """Of the pivot: were it taken for failed, what it stands on would be undone."""
    saga = pivoted()
    saga.reply("a")
    (first,) = saga.open
    saga.reply("pay", "exhausted")
    saga.ask("saga.retry")
    saga.settle()
    saga.end(first, "done", "paid")
    saga.settle()
    row = saga.row()
    assert (StepStatus.SENT, "late-reply") == (row.steps["pay"].status, saga.kinds()[-1])
    saga.reply("pay", "failed")
    assert (SagaStatus.RUNNING, StepStatus.DONE) == (row.status, saga.row().steps["pay"].status)
    assert {"a": None, "pay": "paid"} == saga.commands[-1].data["results"]
    saga.reply("mail")
    assert SagaStatus.COMPLETED is saga.row().status
    judge(saga)


def test_that_the_result_of_an_attempt_before_was_dropped_is_said_when_it_counts() -> None:
    saga = pivoted()
    saga.reply("a")
    (first,) = saga.open
    saga.reply("pay", "exhausted")
    saga.ask("saga.retry")
    saga.settle()
    saga.end(first, "done", "x" * RESULT_BYTES_MAX)
    saga.settle()
    saga.reply("pay", "failed")
    dropped = [event["change"] for event in saga.events() if event.get("isResultDropped")]
    assert ["late-reply", "step-done"] == dropped
    judge(saga)


def test_a_compensation_s_attempt_before_counts_as_a_step_s_does() -> None:
    saga = started()
    saga.reply("a")
    saga.reply("b", "failed")
    (first,) = saga.open
    saga.reply("a.undo", "exhausted")
    saga.ask("saga.retry")
    saga.settle()
    (second,) = saga.open
    saga.reply("a.undo", "exhausted")
    saga.ask("saga.retry")
    saga.settle()
    saga.end(second, "done")
    saga.settle()
    assert StepStatus.UNDOING is saga.row().steps["a"].status
    saga.reply("a.undo", "exhausted")
    assert SagaStatus.COMPENSATED is saga.row().status
    judge(saga)

    later = started()
    later.reply("a")
    later.reply("b", "failed")
    (first,) = later.open
    later.reply("a.undo", "exhausted")
    later.ask("saga.retry")
    later.settle()
    later.reply("a.undo", "exhausted")
    later.end(first, "done")
    later.settle()
    assert SagaStatus.COMPENSATED is later.row().status
    judge(later)


def test_a_compensation_from_before_its_step_was_done_does_not_count() -> None:
    saga = started()
    saga.reply("a")
    (step_b,) = saga.open
    saga.reply("b", "exhausted")
    (too_early,) = saga.open
    saga.reply("b.undo", "exhausted")
    saga.end(step_b, "done", "after all")
    saga.settle()
    saga.end(too_early, "done")
    saga.settle()
    saga.reply("b.undo", "exhausted")
    assert StepStatus.NOT_UNDONE is saga.row().steps["b"].status
    saga.end(too_early, "done")
    saga.settle()
    assert StepStatus.NOT_UNDONE is saga.row().steps["b"].status
    judge(saga)


def test_a_person_does_a_step_and_may_refuse_to() -> None:
    saga = started(*MANUAL)
    saga.reply("a")
    assert ["a"] == saga.sent()
    saga.ask("saga.complete", step="approve", result={"by": "me"})
    saga.settle()
    assert {"by": "me"} == saga.commands[-1].data["results"]["approve"]
    saga.reply("b")
    assert SagaStatus.COMPLETED is saga.row().status

    refused = started(*MANUAL)
    refused.reply("a")
    refused.ask("saga.reject", step="approve", reason="too dear")
    refused.settle()
    refused.reply("a.undo")
    assert "approve: too dear" == refused.row().reason
    judge(refused)


def test_a_person_who_does_not_answer_in_time_has_refused() -> None:
    saga = started(*MANUAL)
    saga.reply("a")
    saga.now_ms += 5_000
    saga.settle()
    saga.reply("a.undo")
    assert (SagaStatus.COMPENSATED, "approve: timeout") == (saga.row().status, saga.row().reason)


def test_what_a_person_is_asked_is_cancelled_when_another_branch_fails() -> None:
    saga = started(step("a"), step("approve", flow=None, undo=False))
    saga.reply("a", "failed")
    assert SagaStatus.COMPENSATED is saga.row().status
    assert "cancelled" == saga.row().steps["approve"].error


def test_an_abandoned_instance_hears_and_sends_nothing_any_more() -> None:
    saga = started(*chain("a", "b", timeout_ms=1_000))
    saga.ask("saga.abandon", reason="done by hand")
    saga.settle()
    saga.reply("a")
    saga.now_ms += 5_000
    saga.settle()
    row = saga.row()
    assert (SagaStatus.ABANDONED, "done by hand") == (row.status, row.reason)
    assert ["a"] == saga.sent()
    judge(saga)


def test_nobody_answers_for_an_instance_that_is_over() -> None:
    saga = started(*MANUAL)
    saga.reply("a")
    saga.ask("saga.abandon")
    saga.ask("saga.complete", step="approve")
    saga.settle()
    assert "it is abandoned" == refusals(saga)[-1]


def refusals(saga: World) -> list[str]:
    return [
        msgspec.json.decode(one.value or b"").get("reason", "")
        for one in saga.published
        if one.topic == INTERNAL.gaps
    ]


def fates(saga: World, topic: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in saga.published:
        if one.topic == INTERNAL.accounts:
            account = msgspec.json.decode(one.value or b"", type=Account)
            for run in account.runs if account.topic == topic else ():
                found[run.fate] = found.get(run.fate, 0) + run.length
    return found


def test_what_has_happened_is_counted_once_committed() -> None:
    saga = world()
    saga.send("o1")
    saga.step()
    saga.abort()
    effects = saga.step()
    saga.commit(effects)
    assert {("ship", "started"): 1, ("ship", "step-sent"): 1} == effects.changes
    assert {} == saga.step([]).changes


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"op": "saga.retry"}, "no step of it has failed"),
        ({"op": "saga.retry", "step": "b"}, "b has not failed"),
        ({"op": "saga.retry", "key": "nobody"}, "no instance has this key"),
        ({"op": "saga.retry", "saga": "none"}, "unknown saga"),
        ({"op": "saga.complete", "step": "a"}, "a is no step that a person does"),
        ({"op": "saga.complete"}, "step: expected the name of one"),
        ({"op": "saga.flee"}, "op: unknown 'saga.flee'"),
        ({"op": "saga.retry", "force": True}, "Object contains unknown field"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_reason(
    request_: dict[str, Any], reason: str
) -> None:
    saga = started()
    parts = {"key": "k", **request_}
    saga.ask(parts.pop("op"), **parts)
    saga.settle()
    assert reason in refusals(saga)[-1]
    assert ["a"] == saga.sent()


def test_a_key_has_one_instance_and_another_only_where_that_is_wanted() -> None:
    saga = started(*chain("a"))
    saga.send("o2")
    saga.settle()
    saga.reply("a")
    saga.send("o3")
    saga.settle()
    assert ["a"] == saga.sent()
    assert {"d": 2, "e": 1} == fates(saga, TOPICS.starts)

    again = started(*chain("a"), is_repeatable=True)
    first = again.row().id
    again.send("o2")
    again.settle()
    again.reply("a")
    again.send("o3")
    again.settle()
    assert ["a", "a"] == again.sent()
    assert first != again.row().id
    judge(again)


def test_an_instance_that_has_ended_is_forgotten_in_the_end() -> None:
    saga = started(*chain("a"), kept_ms=60_000)
    saga.reply("a")
    saga.now_ms += 59_999
    saga.settle()
    assert SagaStatus.COMPLETED is saga.row().status
    saga.now_ms += 1
    saga.settle()
    left = [key for key in saga.memory.rows if key != b"o"]
    assert [] == left
    saga.send("o2")
    saga.settle()
    assert ["a", "a"] == saga.sent()


def test_instances_finish_on_the_version_that_they_began_with() -> None:
    saga = started(*chain("a", "b"))
    saga.reply("a")
    saga.spec = spec(definition(*chain("a", "b")), definition(*chain("x", "y"), version=2))
    saga.begin()
    saga.send("o2", key="k2")
    saga.settle()
    saga.reply("b")
    assert ["a", "b", "x"] == saga.sent()
    assert (SagaStatus.COMPLETED, 1) == (saga.row().status, saga.row().version)
    assert 2 == saga.row("k2").version
    judge(saga)


def test_a_task_refuses_to_go_on_without_the_version_that_its_instances_run() -> None:
    saga = started()
    table = Table(saga.memory)
    assert unknown_versions(table, {"ship": saga.spec}) is None
    newer = spec(definition(*chain("a"), version=2))
    assert "1 instance of saga ship, version 1, is remembered, and no file has it: put" in (
        unknown_versions(table, {"ship": newer}) or ""
    )
    changed = spec(definition(*chain("a", "b", "c"), digest="other"))
    assert "has changed" in (unknown_versions(table, {"ship": changed}) or "")
    assert "no file has it" in (unknown_versions(table, {}) or "")


def test_results_that_are_no_json_or_too_large_count_as_none() -> None:
    saga = started()
    saga.reply("a", result="x" * 20_000)
    done = [event for event in saga.events() if event["change"] == "step-done"]
    assert (None, True) == (done[0]["result"], done[0]["isResultDropped"])
    assert {"a": None} == saga.commands[-1].data["results"]


# Every way in which small sagas can go.

OUTCOMES = ("done", "failed", "exhausted")


def expected(names: tuple[str, ...], ends: dict[str, str], pivot: str | None) -> tuple[str, bool]:
    """Status and whether it is stuck, for a chain, by walking through it."""
    passed = False
    for name in names:
        if ends[name] != "done":
            blocks = passed or (name == pivot and ends[name] == "exhausted")
            return ("running", True) if blocks else ("compensated", False)
        passed |= name == pivot
    return "completed", False


@pytest.mark.parametrize("pivot", [None, "a", "b", "c"])
def test_every_way_of_a_chain_ends_as_a_walk_through_it_says(pivot: str | None) -> None:
    names = ("a", "b", "c")
    for ends_ in itertools.product(OUTCOMES, repeat=3):
        ends = dict(zip(names, ends_, strict=True))
        steps = [step(one.name, *one.after, is_pivot=one.name == pivot) for one in chain(*names)]
        saga = started(*steps)
        while saga.open:
            (command,) = saga.open
            saga.reply(command.flow, ends.get(command.flow, "done"))
        status, is_stuck = expected(names, ends, pivot)
        assert (status, is_stuck) == (saga.row().status.value, bool(saga.row().stuck)), ends
        judge(saga)
        undone = [flow for flow in saga.sent() if flow.endswith(".undo")]
        done = [name for name in names if name in saga.sent() and ends[name] != "failed"]
        assert undone == (
            [f"{name}.undo" for name in reversed(done)] if status == "compensated" else []
        )
        assert StepStatus.SENT not in statuses(saga.row()).values()


def test_a_pivot_that_is_done_after_all_on_the_way_back_is_for_a_person() -> None:
    saga = started(step("a"), step("pay", "a", is_pivot=True, undo=False))
    saga.reply("a")
    (command,) = saga.open
    saga.reply("pay", "refused")
    saga.end(command, "done")
    saga.settle()
    assert "pay is not undone: it is done, and nothing undoes it" == saga.row().stuck
    assert ["a", "pay", "a.undo"] == saga.sent()
    saga.ask("saga.retry")
    saga.settle()
    assert "nothing undoes pay" in refusals(saga)[-1]
