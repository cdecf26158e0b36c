"""A standby takes over a task of the act plane: what waits and what is parked goes on, in order."""

import json
from collections import defaultdict
from pathlib import Path

from load.fleet import LocalWorker
from tests.broker.bench import PATIENCE_S, Bench, Sent, event, wait_for
from tests.broker.test_standbys import seen

HANDLER = """\
import os
from edo_stream.actions import TransientError, action

@action(dict)
def ship(event):
    if not os.path.exists(os.environ["MENDED"]):
        raise TransientError("closed")
    return event
"""

FLOW = """\
name: {name}
owner: team-tests
description: Ships.
on: {topic}
group: {name}
partitions: 2
action: {{kind: python, handler: standby_handler:ship, idempotency_key: command, replay: safe}}
retry: {{initial: 8s, max: 8s, retries: 20}}
breaker: {{window: 10000, consecutive: 1000000, failure_ratio: 1}}
"""

KEYS, ROUNDS = 20, 10


def test_a_standby_of_an_act_task_goes_on_with_what_waits_and_what_is_parked(
    bench: Bench, tmp_path: Path
) -> None:
    topic, flow = bench.declare("placed", partitions=2), f"{bench.name}-ship"
    bench.apply()
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / f"{flow}.yaml").write_text(FLOW.format(name=flow, topic=topic))
    (tmp_path / "standby_handler.py").write_text(HANDLER)
    mended = tmp_path / "mended"
    first, second = (
        bench.worker(name, EDO_STANDBYS="1", MENDED=str(mended)) for name in ("first", "second")
    )
    for worker in (first, second):
        worker.launch()
    for worker in (first, second):
        worker.wait_ready(PATIENCE_S)
    # A key's events come from one partition, in order; each key's first command fails and waits.
    bench.send(topic, [of_key(key, number) for number in range(ROUNDS) for key in range(KEYS)])
    wait_for(lambda: parked(bench) == KEYS * (ROUNDS - 1), "all others to be parked")
    wait_for(lambda: follows(second, flow), "a standby that has all of it")

    first.kill()
    mended.write_text("")
    total = KEYS * ROUNDS
    records = wait_for(
        lambda: len(found := bench.read(f"edo.outcomes.{flow}")) >= total and found, "outcomes"
    )

    by_key: dict[bytes, list[str]] = defaultdict(list)
    for record in records:
        by_key[record.key].append(json.loads(record.value)["id"])
    expected = {b"k%d" % k: [f"{k}/{number}" for number in range(ROUNDS)] for k in range(KEYS)}
    assert expected == by_key, "each once, and in order"
    tasks = [task for task in seen(second)["tasks"] if task["group"] == flow]
    assert ["running"] * 2 == [task["phase"] for task in tasks]
    assert sum(task["restoredRecords"] for task in tasks) < KEYS, "no restore from the beginning"


def of_key(key: int, number: int) -> Sent:
    return event(f"{key}/{number}", f"k{key}", partition=key % 2)


def parked(bench: Bench) -> int:
    told = bench.edo("key", "list", "--json")
    return sum(one["parked"] for one in json.loads(told.stdout)) if told.returncode == 0 else -1


def follows(worker: LocalWorker, flow: str) -> bool:
    """Whether it runs one task of the flow, and stands by for the other with nothing left."""
    told = seen(worker)
    tasks = [task["phase"] for task in told["tasks"] if task["group"] == flow]
    lags = [one["lagRecords"] for one in told["standbys"] if one["group"] == flow]
    return (tasks, lags) == (["running"], [0])
