"""A range again, on a real Kafka: the same commands, once more, while the shop goes on."""

import json
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from load.fleet import LocalWorker
from tests.broker.bench import Bench, Sent, event, wait_for

HANDLER = '''\
"""Writes each run into a ledger."""
import json, os
from edo_stream.actions import Call, action

@action(dict)
async def ship(event, call: Call):
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(json.dumps([call.idempotency_key, event["id"]]) + "\\n")
    return {"shipped": event["id"]}
'''

FLOW = """\
name: {name}
owner: team-tests
description: Ships.
on: {topic}
group: {group}
partitions: 2
action:
  kind: python
  handler: replay_handler:ship
  idempotency_key: command
  replay: {replay}
"""


class Shop:
    """Two flows on a topic, of which one may run again."""

    def __init__(self, bench: Bench, root: Path) -> None:
        self.bench = bench
        self.topic = bench.declare("placed", partitions=2)
        self.ship, self.bill = f"{bench.name}-ship", f"{bench.name}-bill"
        flows = root / "flows"
        flows.mkdir()
        for name, replay in ((self.ship, "safe"), (self.bill, "forbidden")):
            text = FLOW.format(
                name=name, topic=self.topic, group=f"{bench.name}-act", replay=replay
            )
            (flows / f"{name}.yaml").write_text(text)
        (root / "replay_handler.py").write_text(HANDLER)
        self.ledger = root / "ledger"
        bench.apply()
        self.worker = bench.worker(LEDGER=str(self.ledger))
        self.worker.start()

    def outcomes(self, flow: str, count: int) -> list[Any]:
        def look() -> list[Any] | None:
            found = self.bench.read(f"edo.outcomes.{flow}")
            return found if len(found) >= count else None

        return wait_for(look, f"{count} outcomes of {flow}")

    def runs(self) -> list[tuple[str, str]]:
        return [tuple(json.loads(line)) for line in self.ledger.read_text().splitlines()]

    def replay(self, *arguments: str) -> Any:
        told = self.bench.edo("replay", self.topic, "--json", *arguments)
        assert told.returncode == 0, told.stderr
        return json.loads(told.stdout)


def order(number: int) -> Sent:
    return event(f"o-{number}", f"k{number % 6}", partition=number % 2)


def replayed_metrics(worker: LocalWorker, flow: str) -> dict[str, float]:
    with urlopen(f"{worker.address}/metrics") as page:
        lines = page.read().decode().splitlines()
    found = {}
    for line in lines:
        if line.startswith(f'edo_replayed_events_total{{flow="{flow}"'):
            name, _, value = line.rpartition(" ")
            found[name.partition('reason="')[2].partition('"')[0]] = float(value)
    return found


def test_a_range_runs_again_with_the_same_keys_while_the_shop_goes_on(
    bench: Bench, tmp_path: Path
) -> None:
    shop = Shop(bench, tmp_path)
    sent = [order(number) for number in range(60)]
    # Three come twice, and one is no event.
    bench.send(shop.topic, [*sent, *sent[:3], Sent(b"k0", b"{", partition=0)])
    shop.outcomes(shop.ship, 60)
    shop.outcomes(shop.bill, 60)
    first = shop.runs()
    assert 120 == len(first)
    results = len(bench.read(f"{shop.topic}.out"))

    dry = shop.replay("--dry-run")
    went_on = {"dead-lettered": 1, "duplicate": 3, "replayed": 60}
    assert dry["flows"][shop.ship] == {"refusal": None, "counts": went_on}
    assert dry["flows"][shop.bill] == {"refusal": "forbidden", "counts": {"forbidden": 64}}
    assert (64, 60, None) == (dry["records"], dry["replayed"], dry["replay"])
    assert len(bench.read(f"edo.commands.{shop.ship}")) == 60
    _judge_mistaken(shop)
    refused = bench.edo("replay", shop.topic, "--flow", shop.bill, "--to", "0")
    assert refused.returncode == 1
    assert "its action is replay: forbidden" in refused.stdout

    bench.send(shop.topic, [order(number) for number in range(100, 130)])
    end = shop.replay("--to", "20", "--where", 'id.startsWith("o-1")', "--rate", "500")
    counts = end["flows"][shop.ship]["counts"]
    # o-1 and o-10 to o-19 lie at the first 20 offsets of the two partitions.
    assert {"replayed": 11, "filtered": 29} == counts
    assert 40 == end["records"]

    outcomes = shop.outcomes(shop.ship, 101)
    ids = Counter(dict(one.headers)["ce_id"] for one in outcomes)
    assert {1: 79, 2: 11} == Counter(ids.values())
    marked = [one for one in outcomes if "edo-replay" in dict(one.headers)]
    assert {end["replay"].encode()} == {dict(one.headers)["edo-replay"] for one in marked}
    again = Counter(shop.runs()) - Counter(first)
    replays = {name for _, name in again if int(name[2:]) < 100}
    assert {"o-1", *(f"o-{number}" for number in range(10, 20))} == replays
    assert {(key, name) for key, name in again if name in replays} <= set(first)
    _judge_order(shop, outcomes)
    shop.outcomes(shop.bill, 90)

    assert len(bench.read(f"{shop.topic}.out")) == results + 30
    for flow, expected in (
        (
            shop.ship,
            {
                "replayed": 11,
                "filtered": 29,
                "where-failed": 60,
                "duplicate": 3,
                "dead-lettered": 1,
            },
        ),
        (shop.bill, {"forbidden": 104}),
    ):
        wait_for(
            lambda flow=flow, expected=expected: expected == replayed_metrics(shop.worker, flow),
            f"the replay's counts of {flow}: {expected}",
        )
    audit = bench.edo("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr


def _judge_mistaken(shop: Shop) -> None:
    """What cannot be judged is left out with its reason, which is told once."""
    mistaken = shop.bench.edo("replay", shop.topic, "--where", "data.nofield == 1", "--json")
    assert mistaken.returncode == 1
    said = json.loads(mistaken.stdout)
    assert {"dead-lettered": 1, "duplicate": 3, "where-failed": 60} == said["flows"][shop.ship][
        "counts"
    ]
    assert said["whereFailed"]["position"].startswith(f"{shop.topic}/")
    assert said["whereFailed"]["detail"] == "the event has no nofield"


def _judge_order(shop: Shop, outcomes: list[Any]) -> None:
    """What happens now keeps its order, whatever is replayed in between."""
    numbers: dict[bytes, list[int]] = {}
    for one in outcomes:
        if "edo-replay" not in dict(one.headers):
            number = int(json.loads(one.value)["shipped"][2:])
            numbers.setdefault(one.key, []).append(number)
    assert len(numbers) == 6
    assert all(found == sorted(found) for found in numbers.values())
