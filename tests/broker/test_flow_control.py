"""Commands that an event cancels, and a flow that an operator pauses, on a real Kafka."""

import json
from pathlib import Path
from typing import Any

from tests.broker.bench import Bench, Sent, wait_for
from tests.broker.test_observe import page

HANDLER = '''\
"""Writes down each run, and what has ended it; one is long, and one always fails."""
import asyncio, os
from edo_stream.actions import TransientError, action

def note(*words):
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(" ".join(map(str, words)) + "\\n")

@action(dict)
async def ship(event):
    note("run", event["n"])
    try:
        if event.get("long"):
            await asyncio.sleep(600)
    except asyncio.CancelledError:
        note("cut", event["n"])
        raise
    if event.get("down"):
        raise TransientError("down")
    return {"n": event["n"]}
'''

FLOW = """\
name: {name}
owner: team-tests
description: Ships.
on: {topic}
cancel_on: {cancel}
group: {name}
partitions: 2
action:
  kind: python
  handler: shipping_handler:ship
  timeout: 900s
  idempotency_key: command
  replay: safe
retry: {{initial: 1h, max: 1h}}
"""


class Shop:
    """A flow whose commands an event of another topic cancels."""

    def __init__(self, bench: Bench, root: Path, by: str = "") -> None:
        self.bench = bench
        self.flow = f"{bench.name}-ship"
        self.ledger = root / "ledger"
        self.topic = bench.declare("placed", partitions=2)
        self.cancel = bench.declare("cancelled", partitions=2)
        bench.apply()
        (root / "flows").mkdir()
        cancel = f"{{topic: {self.cancel}, by: {by}}}" if by else self.cancel
        text = FLOW.format(name=self.flow, topic=self.topic, cancel=cancel)
        (root / "flows" / f"{self.flow}.yaml").write_text(text)
        (root / "shipping_handler.py").write_text(HANDLER)
        self.worker = bench.worker(LEDGER=str(self.ledger))
        self.worker.start()

    @property
    def commands(self) -> str:
        return f"edo.commands.{self.flow}"

    def notes(self) -> list[str]:
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []

    def send(self, topic: str, number: int, key: str, **data: Any) -> None:
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_id", b"e-%d" % number),
            ("ce_source", b"/shop"),
            ("ce_type", b"shop.happened"),
            ("content-type", b"application/json"),
        ]
        value = json.dumps({"n": number, **data}).encode()
        self.bench.send(topic, [Sent(key.encode(), value, headers, number % 2)])

    def ends(self, count: int) -> list[tuple[str, Any]]:
        """How commands ended, by what was told of it, once there are so many."""

        def look() -> list[Any] | None:
            found = self.bench.read(f"edo.outcomes.{self.flow}")
            return found if len(found) >= count else None

        found = wait_for(look, f"{count} outcomes")
        kinds = (dict(one.headers)["ce_type"].decode().rpartition(".")[2] for one in found)
        return [(kind, json.loads(one.value)) for kind, one in zip(kinds, found, strict=True)]


def test_an_event_ends_what_runs_what_waits_and_what_is_in_retry(
    bench: Bench, tmp_path: Path
) -> None:
    shop = Shop(bench, tmp_path)
    shop.send(shop.topic, 0, "a", long=True)
    shop.send(shop.topic, 2, "a")
    shop.send(shop.topic, 1, "b", down=True)
    wait_for(lambda: {"run 0", "run 1"} <= {*shop.notes()}, "a long run, and one that fails")
    wait_for(lambda: bench.read(f"edo.retry.{shop.flow}.1h"), "a retry")
    wait_for(lambda: len(bench.read(shop.commands)) == 3, "the one behind the long run")

    shop.send(shop.cancel, 100, "a")
    shop.send(shop.cancel, 101, "b")
    ended = shop.ends(3)
    shop.send(shop.topic, 4, "a")

    assert {"cancelled"} == {kind for kind, _ in ended}
    assert ["e-100", "e-100", "e-101"] == sorted(told["event"] for _, told in ended)
    assert {shop.cancel} == {told["position"].partition("/")[0] for _, told in ended}
    assert ("done", {"n": 4}) in shop.ends(4)
    assert ["run 0", "run 1", "cut 0", "run 4"] == sorted(
        shop.notes(), key=["run 0", "run 1", "cut 0", "run 4"].index
    )

    def audited() -> dict[str, int] | None:
        told = bench.edo("audit", "--json")
        assert 0 == told.returncode, told.stdout + told.stderr
        ends: dict[str, int] = json.loads(told.stdout)["flows"][shop.flow]
        return None if ends["pending"] or ends["waiting"] else ends

    ends = wait_for(audited, "all commands accounted for")
    assert (4, 3, 1) == (ends["commands"], ends["cancelled"], ends["done"])


def test_an_event_ends_what_has_its_field_whatever_its_key(bench: Bench, tmp_path: Path) -> None:
    shop = Shop(bench, tmp_path, by="{cancelling: /id, cancelled: /order}")
    shop.send(shop.topic, 0, "a", order="x", long=True)
    shop.send(shop.topic, 2, "a", order="y")
    shop.send(shop.topic, 4, "a", order="x")
    shop.send(shop.topic, 1, "b", order="x", down=True)
    shop.send(shop.topic, 3, "c", order="y")
    wait_for(lambda: {"run 0", "run 1", "run 3"} <= {*shop.notes()}, "runs")
    wait_for(lambda: bench.read(f"edo.retry.{shop.flow}.1h"), "a retry")
    wait_for(lambda: len(bench.read(shop.commands)) == 5, "the ones behind the long run")
    # Nothing of it is known to the next one but what was committed.
    shop.worker.kill()
    shop.worker.start()

    shop.send(shop.cancel, 100, "x-1", id="x")
    ended = shop.ends(5)

    assert ["cancelled"] * 3 + ["done"] * 2 == sorted(kind for kind, _ in ended)
    assert {2, 3} == {told["n"] for kind, told in ended if kind == "done"}
    assert {"e-100"} == {told["event"] for kind, told in ended if kind == "cancelled"}
    shop.send(shop.topic, 6, "a", order="x")
    assert ("done", {"n": 6}) in shop.ends(6)
    audited = bench.edo("audit", "--json")
    assert 0 == audited.returncode, audited.stdout + audited.stderr


def test_a_paused_flow_takes_commands_in_and_begins_none_until_it_is_resumed(
    bench: Bench, tmp_path: Path
) -> None:
    shop = Shop(bench, tmp_path)
    paused = bench.edo("flow", "pause", shop.flow, "--reason", "carrier moves", "--by", "ann")
    assert 0 == paused.returncode, paused.stderr
    for number in range(6):
        shop.send(shop.topic, number, f"k{number % 2}")
    wait_for(lambda: len(bench.read(shop.commands)) == 6, "commands")
    shop.worker.restart()
    wait_for(lambda: page(shop.worker, "/readyz")[0] == 200, "readiness")

    (listed,) = json.loads(bench.edo("flow", "list", "--json").stdout)
    told = listed["paused"]
    assert ("ann", "carrier moves", [0, 1]) == (told["by"], told["reason"], told["partitions"])
    lag = bench.edo("lag", "--json", "--window", "0.5")
    paces = {one["status"] for one in json.loads(lag.stdout) if one["lag"]}
    assert (0, {"PAUSED"}) == (lag.returncode, paces), lag.stdout
    status = bench.edo("status", "--lag-max", "0")
    assert 0 == status.returncode, status.stdout
    said = " ".join(status.stdout.split())
    assert f"flow {shop.flow} is PAUSED since" in said
    assert "by ann: carrier moves" in said
    assert 200 == page(shop.worker, "/healthz")[0]
    assert [] == shop.notes()

    assert 0 == bench.edo("flow", "resume", shop.flow).returncode

    assert 6 == len(shop.ends(6))
    ran = [int(note.split()[1]) for note in shop.notes()]
    assert ([0, 2, 4], [1, 3, 5]) == ([n for n in ran if n % 2 == 0], [n for n in ran if n % 2])
