"""First files of a flow: they pass the lint, and their own test as they are."""

import json
from dataclasses import dataclass
from typing import Any, Final

_ID: Final = "5b8f1c1e-7f0a-4b57-9c83-0d1d6b4ad001"


@dataclass(frozen=True, slots=True)
class FlowPlan:
    """What a new flow is asked to be."""

    name: str
    topic: str
    owner: str
    folder: str
    """Of the flows, as the project calls it."""
    sample: Any = None
    """An event of the topic, or its data; ``None``: nothing is known of them."""
    key: str | None = None
    """JSON pointer of what its commands are kept in order by; ``None``: the event's key."""


def flow_files(plan: FlowPlan) -> dict[str, str]:
    """Files of a new flow by their paths in the project."""
    module = plan.name.replace("-", "_")
    if not module[0].isalpha():
        module = f"flow_{module}"
    wanted = _event(plan)
    unwanted = {**wanted, "id": _ID[:-1] + "2", "subject": "test-1"}
    values = {
        "name": plan.name,
        "topic": plan.topic,
        "owner": plan.owner,
        "module": module,
        "key": f"key: {plan.key}" if plan.key else "# key: /order/id",
        "samples": f"{plan.folder}/samples/{plan.name}",
    }
    return {
        f"{plan.folder}/{plan.name}.yaml": _FLOW.format(**values),
        f"handlers/{module}.py": _HANDLER.format(**values),
        f"{values['samples']}/wanted.json": _json(wanted),
        f"{values['samples']}/unwanted.json": _json(unwanted),
        f"tests/test_{module}.py": _TEST.format(**values),
    }


def _event(plan: FlowPlan) -> dict[str, Any]:
    if isinstance(plan.sample, dict) and "specversion" in plan.sample:
        found = dict(plan.sample)
    else:
        found = {
            "specversion": "1.0",
            "id": _ID,
            "source": f"/{plan.topic.partition('.')[0]}",
            "type": plan.topic,
            "time": "2026-01-31T12:00:00Z",
            "data": plan.sample if plan.sample is not None else {"id": "1017"},
        }
    if str(found.get("subject", "test-")).startswith("test-"):
        found["subject"] = "1017"
    return found


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


_FLOW: Final = """\
# All that may be said here: docs/flows.md and docs/flow-patterns.md of edo_stream.
#   edo flow lint {name}
#   edo flow test {name} --event {samples}/wanted.json

name: {name}
owner: {owner}
description: Says what was handled; to be replaced by what it is for.
on:
  topic: {topic}
  match:                          # which of its events: a pattern over the whole event
    subject: [{{exists: false}}, {{anything-but: {{prefix: test-}}}}]
  # where: data.total > 100.0     # and an expression, where a pattern is not enough
{key}                  # what is kept in order; default: the event's own key
# input: {{cel: "{{'id': data.id}}"}}   # what the handler is given; default: the event's data
action:
  kind: python
  handler: handlers.{module}:handle
  idempotency_key: command        # the same for every attempt: whoever is called can tell
  replay: safe                    # or forbidden: whether a replay of old events may run it
  timeout: 30s
retry: {{initial: 1s, factor: 2, max: 30s, retries: 5}}
"""

_HANDLER: Final = '''\
"""What the flow {name} does with an event."""

from typing import Any

from edo_stream.actions import Call, action


# The type says what the event's JSON is read as: a msgspec or data class, a pydantic model, or Any.
# What does not fit it is a dead letter at once.
@action(Any)
async def handle(data: Any, call: Call) -> dict[str, str]:
    """Handle one event; called again, with the same idempotency key, when it fails.

    Any exception is tried again. Raise BusinessError where the answer is no, PermanentError where
    no attempt will do, Throttled where it is asked too often (all of edo_stream.actions).
    """
    # Here something is done outside, once for call.idempotency_key. This function must not block;
    # without async it would run in a thread.
    return {{"handled": call.key.decode()}}
'''

_TEST: Final = '''\
"""What the flow {name} does with the samples beside it; no broker is needed."""

import json
from pathlib import Path
from typing import Any

from edo_stream.testing import FlowWorld

SAMPLES = Path(__file__).parents[1] / "{samples}"


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{{name}}.json").read_text())


def test_an_event_that_is_wanted_is_handled(edo_flows: FlowWorld) -> None:
    edo_flows.publish("{topic}", sample("wanted"))
    (outcome,) = edo_flows.outcomes("{name}")
    assert outcome.type == "edo.{name}.done"
    assert outcome.data["handled"]


def test_an_event_of_a_test_is_not(edo_flows: FlowWorld) -> None:
    edo_flows.publish("{topic}", sample("unwanted"))
    assert edo_flows.outcomes("{name}") == []


def test_a_failure_is_tried_again(edo_flows: FlowWorld) -> None:
    edo_flows.fail("{name}", times=2)
    edo_flows.publish("{topic}", sample("wanted"))
    edo_flows.advance(60)  # Virtual seconds: they take no time.
    assert [run.attempt for run in edo_flows.runs("{name}")] == [1, 2, 3]
    assert len(edo_flows.outcomes("{name}")) == 1
'''
