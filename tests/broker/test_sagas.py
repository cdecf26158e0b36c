"""The guide's two ways on a real Kafka: facts that lead to facts, and a saga under kill -9."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tests.broker.bench import Bench, Sent, event, wait_for
from tests.saga import guide

#: The guide's handlers, which write down what they do; mending lets the last step go.
HANDLERS = """\
import asyncio, json, os
from edo_stream.actions import BusinessError, Call, PermanentError, action


def deed(step):
    @action(dict)
    async def do(command, call: Call):
        with open(os.environ["LEDGER"], "a") as ledger:
            ledger.write(json.dumps([step, command["key"], call.idempotency_key]) + "\\n")
        await asyncio.sleep(0.005)
        if step == "pay" and command["event"]["total"] > 100:
            raise BusinessError("not so much", reason="no-credit")
        if step == "thank" and command["key"] == "o-0" and not os.path.exists(os.environ["MENDED"]):
            raise PermanentError("no such address")
        if step == "release":
            return command["result"]
        return {"by": step, "order": command["key"]}

    return do


reserve, release, pay, refund = deed("reserve"), deed("release"), deed("pay"), deed("refund")
label, invoice, hand_over, thank = (
    deed("label"), deed("invoice"), deed("hand_over"), deed("thank")
)
"""
COUNT = 24
GOOD = ["reserve", "pay", "label", "invoice", "hand_over", "thank"]


def is_dear(number: int) -> bool:
    return number % 4 == 3


def order(number: int) -> Sent:
    one = event(f"e-{number}", f"o-{number}", partition=number % 2)
    data = {"id": f"o-{number}", "total": 200 if is_dear(number) else 20}
    return Sent(one.key, json.dumps(data).encode(), one.headers, one.partition)


class Shop:
    """The guide's project, with a worker."""

    def __init__(self, bench: Bench, root: Path) -> None:
        self.bench = bench
        self.ledger, self.mended = root / "ledger", root / "mended"
        guide.write(root, bench.name)
        (root / "shop_steps.py").write_text(HANDLERS)
        saga = root / "flows" / "sagas" / "ship-order.yaml"
        # Of the test's own, on the broker that all tests share.
        self.saga = f"{bench.name}-ship"
        text = saga.read_text().replace("name: ship-order", f"name: {self.saga}")
        saga.unlink()
        saga.with_name(f"{self.saga}.yaml").write_text(
            f"{text}group: {bench.name}-sagas\npartitions: 2\n"
        )
        for file in (root / "flows").glob("*.yaml"):
            name = f"{bench.name}-{file.stem}"
            own = file.read_text().replace(f"name: {file.stem}", f"name: {name}")
            file.with_name(f"{name}.yaml").write_text(
                f"{own}group: {bench.name}-acts\npartitions: 2\n"
            )
            file.unlink()
        applied = bench.edo("topics", "apply")
        assert applied.returncode == 0, applied.stderr
        self.worker = bench.worker(LEDGER=str(self.ledger), MENDED=str(self.mended))

    def deeds(self) -> list[list[str]]:
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        return [json.loads(line) for line in lines]

    def changes(self) -> list[dict[str, Any]]:
        return [json.loads(one.value) for one in self.bench.read(f"edo.sagas.{self.saga}")]

    def rest(self, expected: dict[str, int]) -> None:
        """Wait until so many instances are so."""

        def look() -> bool:
            last = {
                change["key"]: change["change"]
                for change in self.changes()
                if change["change"] in ("completed", "compensated", "stuck")
            }
            return expected == Counter(last.values())

        wait_for(look, f"instances that are {expected}")

    def tell(self, *arguments: str) -> Any:
        told = self.bench.edo("saga", *arguments, "--json")
        assert told.returncode == 0, told.stderr
        return json.loads(told.stdout)


def test_orders_are_shipped_or_undone_whatever_is_killed(bench: Bench, tmp_path: Path) -> None:
    shop = Shop(bench, tmp_path)
    shop.worker.start()
    topic = f"{bench.name}.order.placed"
    sent = [order(number) for number in range(COUNT)]
    # One comes twice.
    bench.send(topic, [*sent[: COUNT // 2], sent[1]])
    wait_for(lambda: len(shop.deeds()) > 20, "steps that run")
    shop.worker.kill()
    before = len(shop.deeds())
    bench.send(topic, sent[COUNT // 2 :])
    shop.worker.start()

    dear = sum(is_dear(number) for number in range(COUNT))
    good = COUNT - dear
    shop.rest({"completed": good - 1, "compensated": dear, "stuck": 1})
    (stuck,) = shop.tell("list", shop.saga, "--stuck")
    assert ("o-0", "running", "thank: permanent") == (stuck["key"], stuck["status"], stuck["stuck"])
    shop.mended.write_text("")
    retried = bench.edo("saga", "retry", shop.saga, "o-0")
    assert retried.returncode == 0, retried.stderr
    shop.rest({"completed": good, "compensated": dear})

    _judge_deeds(shop.deeds(), before)
    _judge_events(shop)
    shown = shop.tell("show", shop.saga, "o-3")
    assert ("compensated", "pay: no-credit") == (shown["status"], shown["reason"])
    assert {"by": "reserve", "order": "o-3"} == shown["steps"]["reserve"]["result"]
    assert "undo-sent" in [one["change"] for one in shown["history"]]
    _judge_choreography(bench, dear)


def _judge_deeds(deeds: list[list[str]], before: int) -> None:
    """Each step of each order has run; a command twice only if it ran at the kill."""
    steps: dict[str, set[str]] = defaultdict(set)
    commands: dict[tuple[str, str], set[str]] = defaultdict(set)
    for step, key, command in deeds:
        steps[key].add(step)
        commands[key, step].add(command)
    for number in range(COUNT):
        expected = {"reserve", "pay", "release"} if is_dear(number) else set(GOOD)
        assert expected == steps[f"o-{number}"], number
    # The one that failed was sent again as another command.
    more = {place: len(ids) for place, ids in commands.items() if len(ids) > 1}
    assert {("o-0", "thank"): 2} == more
    again = len(deeds) - sum(len(ids) for ids in commands.values())
    assert again <= 100, f"{again} runs were repeated of {before}"


def _judge_events(shop: Shop) -> None:
    """Each transition is told once, in order, and each command was written once."""
    numbers: dict[str, list[int]] = defaultdict(list)
    told: list[str] = []
    for change in shop.changes():
        numbers[change["key"]].append(change["number"])
        if change["change"] in ("step-sent", "undo-sent"):
            told.append(change["command"])
    assert COUNT == len(numbers)
    assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())
    steps = ("reserve", "pay", "label", "invoice", "hand-over", "thank", "reserve.undo", "pay.undo")
    written = [
        dict(record.headers)["ce_id"].decode()
        for step in steps
        for record in shop.bench.read(f"edo.commands.{shop.saga}.v1.{step}")
    ]
    assert len(told) == len(set(told))
    assert sorted(told) == sorted(written)


def _judge_choreography(bench: Bench, dear: int) -> None:
    """The same orders by the other way: facts, each once."""

    def keys(last: str) -> list[bytes]:
        return sorted(record.key for record in bench.read(f"{bench.name}.{last}"))

    wait_for(lambda: len(keys("stock.released")) == dear, "what is released")
    wait_for(lambda: len(keys("payment.taken")) == COUNT - dear, "what is paid")
    expected = sorted(f"o-{number}".encode() for number in range(COUNT) if is_dear(number))
    assert expected == keys("stock.released")
