"""Flows that debounce and batch on a real Kafka: a worker that is killed while keys wait."""

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.broker.bench import Bench, Sent, event, wait_for

QUIET_MS, COUNT, KEYS = 5_000, 4, 40
FLOW = """\
name: {name}
owner: team-tests
description: One command for many events.
on: {topic}
{said}
group: {name}
partitions: 2
action: {{kind: noop, idempotency_key: command, replay: safe}}
"""


def _sent(numbers: range) -> list[Sent]:
    return [
        event(f"{key}/{number}", f"k{key}", partition=key % 2)
        for number in numbers
        for key in range(KEYS)
    ]


def test_events_become_one_command_through_a_kill_and_what_waits_is_shown(
    bench: Bench, tmp_path: Path
) -> None:
    topic = bench.declare("edited", partitions=2)
    bench.apply()
    quiet, batch, group = f"{bench.name}-quiet", f"{bench.name}-batch", f"{bench.name}-tasks"
    tasks = f"group: {group}, partitions: 2"
    (tmp_path / "flows").mkdir()
    for name, said in (
        (quiet, f"debounce: {{quiet: {QUIET_MS}ms, max: 1h, {tasks}}}"),
        (batch, f"batch: {{count: {COUNT}, after: 1h, {tasks}}}"),
    ):
        text = FLOW.format(name=name, topic=topic, said=said)
        (tmp_path / "flows" / f"{name}.yaml").write_text(text)

    def commands(flow: str) -> list[Any]:
        return [json.loads(record.value) for record in bench.read(f"edo.commands.{flow}")]

    worker = bench.worker()
    worker.start()
    bench.send(topic, _sent(range(3)))
    wait_for(lambda: len(bench.read(f"edo.joins.{group}")) == 2 * 3 * KEYS, "its events")
    worker.kill()
    bench.send(topic, _sent(range(3, 6)))
    worker.start()
    # The first list of each key, and the second part of it waits for an hour.
    found = wait_for(lambda: len(found := commands(batch)) == KEYS and found, "all batches")
    assert [("count", COUNT)] * KEYS == [(one["reason"], one["count"]) for one in found]
    for one in found:
        numbers = [int(each["id"].partition("/")[2]) for each in one["events"]]
        assert list(range(COUNT)) == numbers

    times: dict[str, list[int]] = defaultdict(list)
    for record in bench.read(topic):
        times[record.key.decode()].append(record.timestamp)
    expected = {key: _bursts(of_key) for key, of_key in times.items()}
    count = sum(map(len, expected.values()))
    said = wait_for(lambda: len(found := commands(quiet)) >= count and found, "every quiet key")
    told: dict[str, list[int]] = defaultdict(list)
    for one in said:
        assert "quiet" == one["reason"]
        told[one["key"]].append(one["count"])
    assert expected == dict(told)

    waits = json.loads(bench.edo("waits", "list", "--flow", batch, "--json").stdout)
    assert [("open", 2, COUNT)] * KEYS == [
        (wait["state"], wait["count"], wait["expected"]) for wait in waits
    ]
    forced = bench.edo("waits", "force", batch, "k7")
    assert 0 == forced.returncode, forced.stderr
    (last,) = wait_for(
        lambda: [one for one in commands(batch) if one["reason"] == "forced"], "the forced one"
    )
    assert ("k7", 2, "operator") == (last["key"], last["count"], last["completed_by"])
    shown = bench.edo("waits", "show", batch, "k7")
    assert "forced, by operator" in shown.stdout, shown.stderr
    _judge(bench, {quiet: count, batch: KEYS + 1})
    worker.kill()
    _judge_gone(bench, tmp_path / "flows" / f"{quiet}.yaml", f"edo.joins.{group}")


def _judge(bench: Bench, counts: dict[str, int]) -> None:
    """Each command has an id and an end of its own, and all adds up."""
    for flow, count in counts.items():
        ids = [dict(record.headers)["ce_id"] for record in bench.read(f"edo.commands.{flow}")]
        assert count == len(set(ids)) == len(ids)
        outcomes = f"edo.outcomes.{flow}"
        wait_for(lambda topic=outcomes, n=count: len(bench.read(topic)) == n, "all ends")
    audit = bench.edo("audit")
    assert 0 == audit.returncode, audit.stdout + audit.stderr


def _judge_gone(bench: Bench, file: Path, joins: str) -> None:
    """No loss is told of a flow whose file is gone, but the flow; with its file all is judged."""
    gone = file.rename(file.with_suffix(".gone"))
    events = len(bench.read(joins))
    worker = bench.worker()
    worker.start()
    bench.send(bench.topic("edited"), [event("last", "k7", partition=1)])
    wait_for(lambda: len(bench.read(joins)) == events + 1, "the event, by the flow that is left")
    worker.kill()
    assert {file.stem: events // 2} == _not_declared(bench)
    gone.rename(file)
    assert {} == _not_declared(bench)


def _not_declared(bench: Bench) -> Any:
    audit = bench.edo("audit", "--json")
    assert 0 == audit.returncode, audit.stdout + audit.stderr
    return json.loads(audit.stdout)["not_declared"]


def _bursts(times_ms: list[int]) -> list[int]:
    """How many events of a key came without a pause, one burst after the other."""
    counts, before_ms = [0], times_ms[0]
    for at_ms in times_ms:
        if at_ms - before_ms >= QUIET_MS:
            counts.append(0)
        counts[-1] += 1
        before_ms = at_ms
    return counts


def test_what_a_timer_alone_has_put_off_is_shown(bench: Bench, tmp_path: Path) -> None:
    topic, name = bench.declare("clicked"), f"{bench.name}-visit"
    bench.apply()
    (tmp_path / "flows").mkdir()
    said = (
        f"when: {{window: {{click: {{topic: {topic}}}}}, session: 10s, group: {bench.name}-waits}}"
    )
    text = FLOW.format(name=name, topic=topic, said=said).replace(f"on: {topic}\n", "")
    (tmp_path / "flows" / f"{name}.yaml").write_text(text)
    worker = bench.worker()
    worker.start()
    bench.send(topic, [event("first", "k")])
    time.sleep(4)
    bench.send(topic, [event("second", "k")])

    def put_off() -> bool:
        (wait,) = json.loads(bench.edo("waits", "list", "--flow", name, "--json").stdout)
        last_ms = bench.read(f"edo.joins.{bench.name}-waits")[-1].timestamp
        return bool(wait["untilMs"] == last_ms + 10_000)

    wait_for(put_off, "the end of a session that has gone on")
