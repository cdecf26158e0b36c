"""Requests and their replies on a real Kafka."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edo_stream.registry import load
from edo_stream.requester import NoReplyError, Requester, RequestFailedError
from edo_stream.settings import read_settings
from load.fleet import LocalWorker
from tests.broker.bench import PATIENCE_S, Bench

FLOW = """\
name: {flow}
owner: team-tests
description: Labels of orders.
on: {topic}
key: /key
partitions: 2
group: {flow}
replies: {flow}
action: {{kind: python, handler: "labels:label", idempotency_key: command, replay: safe}}
"""
HANDLER = """\
import asyncio
from pathlib import Path

from edo_stream.actions import BusinessError, Call, action


@action(dict)
async def label(order, call: Call):
    if order["id"] == "none":
        raise BusinessError("sold out", reason="no-stock")
    if "gate" in order:
        Path(order["gate"] + ".begun").touch()
        while not Path(order["gate"]).exists():
            await asyncio.sleep(0.02)
    return {"label": order["id"]}
"""


#: Time enough for a request to reach its handler, and not to be waited for in vain for long.
SOON_S = 6.0


async def ask(
    one: Requester,
    place: tuple[str, str],
    order: str,
    timeout: float,  # noqa: ASYNC109 - the request's own
    **more: str,
) -> object:
    """Send an order of a key to a topic; what it leads to."""
    topic, key = place
    data = {"id": order, "key": key, **more}
    return (await one.request(topic, key, data, timeout=timeout)).result()


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not look():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.05)


async def talk(requester: Callable[[], Requester], topic: str, folder: Path) -> None:
    """All that may become of requests; ``folder`` has what handlers wait for."""
    slow_gate, gone_gate = folder / "slow", folder / "gone"
    async with requester() as one, requester() as other:
        other._partition = one._partition
        a, b, c = ((topic, key) for key in "abc")
        assert {"label": "first"} == await ask(one, a, "first", PATIENCE_S)
        many = (ask(one, (topic, f"k{n}"), f"o{n}", PATIENCE_S) for n in range(20))
        assert [{"label": f"o{n}"} for n in range(20)] == await asyncio.gather(*many)
        with pytest.raises(RequestFailedError, match="no-stock: sold out"):
            await ask(one, a, "none", PATIENCE_S)
        # The second waits behind the first, whose time is over before its end.
        slow = asyncio.create_task(ask(one, b, "slow", SOON_S, gate=str(slow_gate)))
        await until(folder.joinpath("slow.begun").exists)
        behind = asyncio.create_task(ask(one, b, "behind", SOON_S))
        gone = asyncio.create_task(ask(one, c, "gone", PATIENCE_S, gate=str(gone_gate)))
        await until(folder.joinpath("gone.begun").exists)
        gone.cancel()
        ended = await asyncio.gather(slow, behind, gone, return_exceptions=True)
        assert [NoReplyError, NoReplyError, asyncio.CancelledError] == [type(e) for e in ended]
        for gate in (slow_gate, gone_gate):
            gate.touch()
        await until(lambda: one.heard.late >= 3)
        assert (22, 0) == (one.heard.resolved, one.heard.others)
        assert 0 == other.heard.resolved


def test_a_request_is_answered_refused_or_given_up(bench: Bench, tmp_path: Path) -> None:
    topic = bench.declare("order", partitions=2)
    flow = f"{bench.name}-labels"
    (tmp_path / "labels.py").write_text(HANDLER)
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / f"{flow}.yaml").write_text(FLOW.format(flow=flow, topic=topic))
    applied = bench.edo("topics", "apply")
    assert 0 == applied.returncode, applied.stderr
    bench.worker().start()
    settings = read_settings({**os.environ, **bench.environment})
    registry = load(bench.contracts)

    def requester() -> Requester:
        return Requester("/tests", flow, settings=settings, registry=registry)

    asyncio.run(talk(requester, topic, tmp_path))
    told = [json.loads(record.value) for record in bench.read(f"edo.replies.{flow}")]
    assert ["expired"] == [one["reason"] for one in told if one.get("class") and
        one["reason"] != "no-stock"]  # fmt: skip
    assert {"label": "behind"} not in told, "it was not run"
    outcomes = bench.read(f"edo.outcomes.{flow}")
    assert len(outcomes) == len(told) == 25

    order = tmp_path / "order.json"
    order.write_text('{"id": "by-hand", "key": "h"}')
    done = bench.edo("events", "request", topic, str(order), "--timeout", "60", "--key", "h")
    assert (0, '{"label":"by-hand"}\n') == (done.returncode, done.stdout), done.stderr
    order.write_text('{"id": "none", "key": "h"}')
    failed = bench.edo(
        "events", "request", topic, str(order), "--timeout", "60", "--key", "h", "--json"
    )
    assert 1 == failed.returncode, failed.stderr
    assert "failed" == json.loads(failed.stdout)["end"]
    assert "no-stock: sold out" in failed.stderr
    gate = tmp_path / "never"
    order.write_text(json.dumps({"id": "late", "key": "h", "gate": str(gate)}))
    late = bench.edo("events", "request", topic, str(order), "--timeout", "2.5", "--key", "h")
    assert (3, "") == (late.returncode, late.stdout)
    assert "no reply within 2.5 s: the request is at" in late.stderr


SPLITS = """\
name: {flow}-line
owner: team-tests
description: Asks for the price of each line.
on: {topic}
key: /key
partitions: 2
group: {flow}
split: {{at: /lines, key: /sku}}
input: {{cel: element}}
action: {{kind: python, handler: "prices:price", idempotency_key: command, replay: safe}}
"""
GATHERS = """\
name: {flow}-whole
owner: team-tests
description: Tells the prices of all lines.
when: {{gather: {flow}-line, within: 5m, partitions: 2, group: {flow}-joins, failed: failure}}
emit: {{topic: {result}}}
replies: {flow}
"""
SAGA = """\
name: {flow}-saga
version: 1
owner: team-tests
description: Reserves and ships.
on: {{topic: {saga}}}
key: /key
partitions: 2
group: {flow}-sagas
replies: {flow}
steps:
  - name: reserve
    action: {{kind: python, handler: "prices:price", idempotency_key: command, replay: safe}}
    compensate:
      action: {{kind: noop, idempotency_key: command, replay: safe}}
  - name: ship
    action: {{kind: python, handler: "prices:ship", idempotency_key: command, replay: safe}}
"""
PRICES = """\
from edo_stream.actions import BusinessError, action


@action(dict)
async def price(line):
    if line.get("sku") == "gone":
        raise BusinessError("not sold any more", reason="gone")
    return {"price": 3}


@action(dict)
async def ship(told):
    if told["event"]["sku"] == "heavy":
        raise BusinessError("too heavy", reason="heavy")
    return {"parcel": told["key"]}
"""


async def ask_for_wholes(
    requester: Callable[[], Requester], topic: str, saga: str, worker: LocalWorker
) -> None:
    """Requests to a flow that splits and gathers, and to a saga, while the worker is killed."""
    async with requester() as one:
        quotes = [
            asyncio.create_task(
                one.request(
                    topic,
                    f"k{n}",
                    {"key": f"k{n}", "lines": [{"sku": "gone" if n == 3 else s} for s in "AB"]},
                    timeout=PATIENCE_S,
                )
            )
            for n in range(6)
        ]
        shipped = [
            asyncio.create_task(
                one.request(saga, f"s{n}", {"key": f"s{n}", "sku": sku}, timeout=PATIENCE_S)
            )
            for n, sku in enumerate(("A", "heavy", "B"))
        ]
        await asyncio.sleep(0)
        await asyncio.to_thread(worker.kill)
        await asyncio.to_thread(worker.start)
        replies = await asyncio.gather(*quotes)
        assert ["done"] * 3 + ["failed"] + ["done"] * 2 == [reply.end for reply in replies]
        results = [reply.json()["inputs"]["results"] for reply in replies if reply.is_done]
        assert [[3, 3]] * 5 == [[line["data"]["price"] for line in found] for found in results]
        ends = await asyncio.gather(*shipped)
        assert ["done", "compensated", "done"] == [reply.end for reply in ends]
        assert {"parcel": "s0"} == ends[0].result()["results"]["ship"]
        assert "ship: heavy" == ends[1].json()["reason"]
        assert (9, 0, 0) == (one.heard.resolved, one.heard.late, one.heard.others)


def test_a_request_is_told_of_the_whole_that_it_leads_to(bench: Bench, tmp_path: Path) -> None:
    flow = f"{bench.name}-q"
    names = {last: bench.declare(last, partitions=2) for last in ("order", "result", "saga")}
    topic, result, saga = names.values()
    (tmp_path / "prices.py").write_text(PRICES)
    (tmp_path / "flows" / "sagas").mkdir(parents=True)
    for name, text in (("line", SPLITS), ("whole", GATHERS), ("sagas/saga", SAGA)):
        file = f"sagas/{flow}-saga" if "/" in name else f"{flow}-{name}"
        said = text.format(flow=flow, topic=topic, result=result, saga=saga)
        (tmp_path / "flows" / f"{file}.yaml").write_text(said)
    applied = bench.edo("topics", "apply")
    assert 0 == applied.returncode, applied.stderr
    worker = bench.worker()
    worker.start()
    settings = read_settings({**os.environ, **bench.environment})
    registry = load(bench.contracts)

    def requester() -> Requester:
        return Requester("/tests", flow, settings=settings, registry=registry)

    asyncio.run(ask_for_wholes(requester, topic, saga, worker))
    assert 9 == len(bench.read(f"edo.replies.{flow}"))
    audited = bench.edo("audit", "--json")
    assert 0 == audited.returncode, audited.stdout + audited.stderr
