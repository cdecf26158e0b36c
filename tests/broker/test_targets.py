"""Two workers on a real Kafka share a target: its rate, and the breaker that leaves it alone."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from load.fleet import LocalWorker
from tests.broker.bench import Bench, Sent, wait_for
from tests.broker.test_exits import CONFIGURATION, run_worker, said
from tests.broker.test_standbys import seen

HANDLER = '''\
"""Writes down each run with its process, and fails while there is a file that says so."""
import asyncio, json, os, time
from edo_stream.actions import TransientError, action

@action(dict)
async def call(event):
    began = time.time()
    is_broken = os.path.exists(os.environ["BROKEN"])
    await asyncio.sleep(0.005)
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(json.dumps([event["n"], os.getpid(), began, time.time(), is_broken]) + "\\n")
    if is_broken:
        raise TransientError("closed", reason="closed")
'''

FLOW = """\
name: {name}
owner: team-tests
description: Calls the carrier.
on: {topic}
group: {group}
partitions: 4
action: {{kind: python, handler: "carrier:call", idempotency_key: command, replay: safe}}
retry: {{initial: 300ms, max: 300ms, retries: 20}}
target: {group}
{more}
"""
Run = tuple[int, int, float, float, bool]
"""Number, process, begin, end, whether the target was broken."""
PER_S = 40
LEASE = int(0.4 * PER_S)


class Carrier:
    """What two flows call: a handler, and the file that breaks it."""

    def __init__(self, bench: Bench, root: Path) -> None:
        self.bench = bench
        self.topic = bench.declare("placed", partitions=4)
        bench.apply()
        self.name = f"{bench.name}-carrier"
        self.flows = [f"{bench.name}-{letter}" for letter in "ab"]
        (root / "flows").mkdir()
        (root / "carrier.py").write_text(HANDLER)
        rules = f"rate: {{per_second: {PER_S}}}\nbreaker: {{open: 500ms, open_max: 1s, probes: 2}}"
        for flow, more in zip(self.flows, (rules, ""), strict=True):
            text = FLOW.format(name=flow, topic=self.topic, group=self.name, more=more)
            (root / "flows" / f"{flow}.yaml").write_text(text)
        self.ledger, self.broken = root / "ledger", root / "broken"
        self.environment = {"LEDGER": str(self.ledger), "BROKEN": str(self.broken)}

    def send(self, first: int, count: int) -> None:
        self.bench.send(
            self.topic,
            [
                Sent(
                    b"k%d" % number,
                    json.dumps({"n": number}).encode(),
                    [
                        ("ce_specversion", b"1.0"),
                        ("ce_id", b"o-%d" % number),
                        ("ce_source", b"/shop"),
                        ("ce_type", b"order.placed"),
                        ("content-type", b"application/json"),
                    ],
                    number % 4,
                )
                for number in range(first, first + count)
            ],
        )

    def runs(self) -> list[Run]:
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        return [tuple(json.loads(line)) for line in lines]

    def breakers(self) -> list[dict[str, Any]]:
        told = self.bench.edo("breaker", "list", "--json")
        assert told.returncode == 0, told.stderr
        return json.loads(told.stdout)


def test_two_workers_keep_one_rate_and_leave_a_broken_target_alone(
    bench: Bench, tmp_path: Path
) -> None:
    carrier = Carrier(bench, tmp_path)
    workers = [bench.worker(f"worker{number}", **carrier.environment) for number in range(2)]
    for worker in workers:
        worker.start()
    wait_for(lambda: [2, 2] == [running(one, carrier.name) for one in workers], "two tasks each")
    carrier.send(0, 100)
    # Each event is two commands: one of each flow.
    runs = wait_for(lambda: len(carrier.runs()) >= 200 and carrier.runs(), "all commands have run")

    _judge_rate(sorted(run[2] for run in runs))
    assert len({run[1] for run in runs}) == 2, "both workers call"
    carrier.broken.write_text("")
    carrier.send(100, 30)
    opened = wait_for(
        lambda: all(one["opened"] for one in carrier.breakers()) and carrier.breakers(),
        "an open breaker",
    )
    for row, flow in zip(opened, carrier.flows, strict=True):
        assert (row["flow"], row["target"]) == (flow, carrier.name)
        assert row["why"].endswith("closed"), "says what has failed"
        assert row["owner"].count("/") == 1, "says who decides"
    # Some more are probes.
    wait_for(lambda: carrier.breakers()[0]["opened"] >= 3, "probes that fail")
    carrier.broken.unlink()
    done = wait_for(
        lambda: len([run for run in carrier.runs() if not run[4]]) >= 260 and carrier.runs(),
        "all commands have run in the end",
    )
    (first, second) = carrier.breakers()
    assert (first["state"], second["state"], first["why"]) == ("closed", "closed", "")
    _judge_probes([run for run in done if run[4]], first["opened"])
    for flow in carrier.flows:
        assert bench.read(f"edo.dead-letters.{flow}") == [], "nothing is given up meanwhile"
    stopped = bench.edo("breaker", "open", carrier.name)
    assert (stopped.returncode, stopped.stdout.count("nothing runs")) == (0, 2), stopped.stderr
    shown = bench.edo("breaker", "list")
    assert (shown.returncode, shown.stdout.count("by an operator, 4 of 4")) == (0, 2), shown.stdout


def running(worker: LocalWorker, group: str) -> int:
    tasks = [task["phase"] for task in seen(worker)["tasks"] if task["group"] == group]
    return tasks.count("running")


def _judge_rate(times: list[float]) -> None:
    """At most the rate and a lease a worker in any time, and most of the rate for some time."""
    for index, begin in enumerate(times):
        for count, end in enumerate(times[index:], start=1):
            # A token is taken before the handler sees the time; a worker that the machine holds
            # up in between has at most the tokens of a lease again.
            assert count <= 1 + 4 * LEASE + (end - begin) * PER_S
    # A worker that is held up loses its tokens: so much for the rate of all the time.
    stretches = zip(times, times[50:], strict=False)
    assert any(50 >= 0.6 * PER_S * (end - begin) for begin, end in stretches)


def _judge_probes(failed: list[Run], opened: int) -> None:
    """What failed while it opened failed at once; what failed later were probes."""
    probes = sorted(failed, key=lambda run: run[2])[1 - opened :]
    assert len(probes) == opened - 1 < len(failed)
    for probe, later in pairwise(probes):
        assert later[2] - probe[3] >= 0.45, "one at a time, and after a pause"


SLOW = """\
name: {name}
owner: team-tests
description: Calls slowly.
on: {topic}
group: {group}
partitions: 1
action: {{kind: python, handler: "carrier:call", idempotency_key: command, replay: safe}}
{more}
"""


def test_a_flow_that_is_renamed_while_commands_of_it_wait_is_refused_until_they_have_run(
    bench: Bench, tmp_path: Path
) -> None:
    carrier = Carrier(bench, tmp_path)
    old, new = carrier.flows
    folder = tmp_path / "flows"

    def declare(name: str, more: str = "") -> None:
        text = SLOW.format(name=name, topic=carrier.topic, group=carrier.name, more=more)
        (folder / f"{name}.yaml").write_text(text)

    (folder / f"{new}.yaml").unlink()
    declare(old, "rate: {per_second: 0.001}")
    worker = bench.worker(**carrier.environment)
    worker.start()
    carrier.send(0, 5)
    wait_for(carrier.runs, "the first call")
    worker.kill()
    # Its partition count is another flow's as well: nothing but the name has changed.
    (folder / f"{old}.yaml").unlink()
    declare(new)

    refused = run_worker(bench, **carrier.environment)
    advised = bench.edo("doctor", "--json")
    assert refused.returncode == CONFIGURATION
    waiting = f"commands wait on edo.commands.{old}, and there is no flow {old}"
    assert waiting in said(refused)
    found = [one for one in json.loads(advised.stdout)["checks"] if waiting in one["found"]]
    assert (advised.returncode, len(found)) == (1, 1)

    declare(old, "draining: true")
    worker.start()
    wait_for(lambda: len({run[0] for run in carrier.runs()}) == 5, "what was left has run")
    wait_for(lambda: len(bench.read(f"edo.outcomes.{old}")) == 5, "and nothing else of that name")
