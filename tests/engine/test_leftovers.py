"""Commands that nobody would run: how a worker says what to do, and what its tasks refuse."""

import msgspec
import pytest

from edo_stream.core.act.keys import Blocked, KeyRow, stranded
from edo_stream.core.act.policy import ActSpec
from edo_stream.core.state import Table
from edo_stream.engine.act_plans import _plan
from edo_stream.engine.leftovers import Leftover
from edo_stream.engine.task_spec import TaskSpec
from edo_stream.flows import ActGroup
from tests.act.world import policy, spec
from tests.core.memory import Memory


def state_of(**rows: KeyRow) -> Table:
    memory = Memory()
    table = Table(memory)
    for flow, row in rows.items():
        table.write(b"k" + flow.encode() + b"\0key", msgspec.msgpack.encode(row))
    return table


def group(act_spec: ActSpec) -> ActGroup:
    return ActGroup("act", 1, act_spec)


def test_commands_in_the_state_of_a_flow_that_is_gone_are_counted() -> None:
    state = state_of(
        ship=KeyRow(Blocked.WAITING, 0, first=0, next=5),
        gone=KeyRow(Blocked.WAITING, 0, first=2, next=4),
        over=KeyRow(Blocked.STOPPED, 0),
    )
    assert stranded(state, {"ship"}) == {"gone": 3}


def test_a_task_refuses_to_leave_commands_behind_and_says_how_to_go_on() -> None:
    state = state_of(gone=KeyRow(Blocked.DRAINING, 0, first=0, next=2))
    shared = TaskSpec("app", "", {}, 10.0, 10.0)
    (table,) = _plan(group(spec(policy("ship"))), shared).tables
    refuse = table.refusal
    assert refuse(state_of(ship=KeyRow(Blocked.WAITING, 0))) is None
    why = refuse(state)
    assert why is not None
    assert "group act" in why
    assert "2 of gone" in why
    assert "draining: true" in why


@pytest.mark.parametrize(
    ("leftover", "found", "advice"),
    [
        (
            Leftover("edo.commands.ship", 1),
            "1 command waits on edo.commands.ship, and there is no flow ship",
            (
                "declare flow ship again, with draining: true, until they have run; "
                "or, to give them up, delete the topic edo.commands.ship"
            ),
        ),
        (
            Leftover("edo.retry.act.1s", 1_200),
            "1,200 commands wait on edo.retry.act.1s, and no flow's retries wait there any more",
            (
                "write former_waits: [1s] in a flow of group act until they have run; "
                "or, to give them up, delete the topic edo.retry.act.1s"
            ),
        ),
    ],
)
def test_a_leftover_is_told_with_what_to_do(leftover: Leftover, found: str, advice: str) -> None:
    assert (leftover.found, leftover.advice) == (found, advice)
