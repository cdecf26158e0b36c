"""Actions that misbehave, in a real worker: each command ends, and the worker goes on."""

import json
from pathlib import Path
from typing import Any

from tests.broker.bench import Bench, Sent, wait_for

HANDLERS = """\
import asyncio, os, sys, time
from edo_stream.actions import BusinessError, action

def exits(event, call):
    if call.attempt == 1:
        sys.exit(1)
    return "stayed"

async def exits_loop(event, call):
    if call.attempt == 1:
        sys.exit(1)
    return "stayed"

async def cancels_itself(event, call):
    if call.attempt == 1:
        inner = asyncio.ensure_future(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(inner.cancel)
        await inner
    return "not cancelled"

@action(dict, pool="process")
def dies(event, call):
    if call.attempt == 1:
        os._exit(9)
    return "lived"

async def hangs(event, call):
    if call.attempt == 1:
        await asyncio.sleep(3600)
    return "woke"

def huge(event):
    return "x" * 5_000_000

def odd(event):
    raise BusinessError("\\ud800", reason=5)

def gives(event):
    return object()
"""
FLOW = """\
name: {name}
owner: team-tests
description: Misbehaves.
on: {topic}
group: {group}
partitions: 1
retry: {{initial: 100ms, max: 100ms, retries: 2}}
action: {{{action}, timeout: {timeout}, idempotency_key: command, replay: safe}}
"""
EXPECTED: dict[str, tuple[str, Any]] = {
    "exits": ("done", "stayed"),
    "exits_loop": ("done", "stayed"),
    "cancels_itself": ("done", "not cancelled"),
    "dies": ("done", "lived"),
    "hangs": ("done", "woke"),
    "huge": ("done", {"left_out": {"bytes": 5_000_002}}),
    "odd": ("failed", {"class": "business", "reason": "5", "detail": "?"}),
}


def test_whatever_an_action_does_its_command_ends_and_the_worker_goes_on(
    bench: Bench, tmp_path: Path
) -> None:
    topic = bench.declare("placed", partitions=1)
    bench.apply()
    flows = tmp_path / "flows"
    flows.mkdir()
    (tmp_path / "hostile.py").write_text(HANDLERS)
    names = {}
    for handler in (*EXPECTED, "gives"):
        names[handler] = name = f"{bench.name}-{handler.replace('_', '-')}"
        action = f"kind: python, handler: 'hostile:{handler}'"
        # The others end by themselves, be it that a process has to be started first.
        timeout = "1s" if handler == "hangs" else "60s"
        text = FLOW.format(
            name=name, topic=topic, group=f"{bench.name}-acts", action=action, timeout=timeout
        )
        (flows / f"{name}.yaml").write_text(text)
    bench.worker().start()
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"o-1"), ("ce_source", b"/shop")]
    headers += [("ce_type", b"order.placed"), ("content-type", b"application/json")]

    bench.send(topic, [Sent(b"k", b"{}", headers, 0)])

    for handler, (kind, data) in EXPECTED.items():
        name = names[handler]
        (outcome,) = wait_for(lambda name=name: bench.read(f"edo.outcomes.{name}"), name)
        said = {key: (value or b"").decode() for key, value in outcome.headers}
        assert said["ce_type"] == f"edo.{name}.{kind}"
        assert json.loads(outcome.value or b"") == data
    letters = f"edo.dead-letters.{names['gives']}"
    (letter,) = wait_for(lambda: bench.read(letters), "the letter")
    assert dict(letter.headers)["edo-reason"] == b"result"
