"""The state of a key, asked of two workers of which one has it."""

import asyncio
import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from edo_stream.producer import Producer, Sent
from edo_stream.registry import load
from edo_stream.settings import read_settings
from load.fleet import LocalWorker
from tests.broker.bench import PATIENCE_S, Bench, wait_for

FLOW = """\
name: {name}
owner: team-tests
description: Orders that are paid.
when:
  all:
    order: {{topic: {order}, key: /id}}
    payment: {{topic: {payment}, key: /id}}
  within: 1d
  group: {name}
  partitions: 4
emit: {{topic: {ready}}}
"""
KEYS = [f"o-{number}" for number in range(12)]


class Told(NamedTuple):
    status: int
    document: dict[str, Any]
    headers: Any


class _Unfollowed(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def ask(worker: LocalWorker, path: str) -> Told:
    """Ask one worker, and nobody else."""
    opener = urllib.request.build_opener(_Unfollowed)
    try:
        with opener.open(f"{worker.address}/edo/state/{path}", timeout=PATIENCE_S) as answer:
            return Told(answer.status, json.load(answer), answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return Told(error.code, json.load(error), error.headers)


def produce(bench: Bench, topic: str) -> dict[str, Sent]:
    """An event of each key; where they are written."""

    async def send() -> dict[str, Sent]:
        settings = read_settings({**os.environ, **bench.environment})
        async with Producer("/t", settings=settings, registry=load(bench.contracts)) as producer:
            return {key: await producer.send(topic, {"id": key}, key=key) for key in KEYS}

    return asyncio.run(send())


def offset_of(sent: Sent) -> str:
    return f"{sent.topic}:{sent.partition}:{sent.offset}"


def test_any_worker_says_who_has_a_key_and_that_one_what_it_has(
    bench: Bench, tmp_path: Path
) -> None:
    order, payment, ready = (
        bench.declare(last, partitions=2) for last in ("order", "payment", "ready")
    )
    bench.apply()
    flow = f"{bench.name}-pairs"
    (tmp_path / "flows").mkdir()
    text = FLOW.format(name=flow, order=order, payment=payment, ready=ready)
    (tmp_path / "flows" / f"{flow}.yaml").write_text(text)
    one, other = bench.worker("one"), bench.worker("other")
    one.start()
    other.start()

    def shares() -> list[set[int]] | None:
        """Once each key has an owner, which are with whom."""
        found = [{k for k, key in enumerate(KEYS) if ask(w, f"{flow}/{key}").status == 404}
                 for w in (one, other)]  # fmt: skip
        # Both are asked one after the other: what has moved meanwhile is with both, or nobody.
        is_dealt = all(found) and sorted([*found[0], *found[1]]) == list(range(len(KEYS)))
        return found if is_dealt else None

    mine, theirs = wait_for(shares, "all partitions with one of two workers")
    sent = produce(bench, order)
    for number, key in enumerate(KEYS):
        path = f"{flow}/{key}?min_offset={offset_of(sent[key])}&wait=10"
        told = ask(one, path)
        if number in theirs:
            assert (307, f"{other.address}/edo/state/{path}") == (
                told.status,
                told.headers["Location"],
            )
            told = ask(other, path)
        assert 200 == told.status, told
        assert ("open", ["payment"], key) == (
            told.document["state"],
            told.document["missing"],
            told.document["key"],
        )
        place = str(sent[key].partition)
        assert told.document["applied"][order][place] >= sent[key].offset
        assert f"{order}:{place}:" in told.headers["Edo-Applied"]

    there = KEYS[min(theirs)]
    shown = bench.edo("query", flow, there, "--worker", one.address, "--json")
    assert (0, "open") == (shown.returncode, json.loads(shown.stdout)["state"]), shown.stderr
    ahead = ask(one, f"{flow}/{KEYS[min(mine)]}?min_offset={order}:0:999999&wait=0.2")
    assert (504, "not-applied") == (ahead.status, ahead.document["reason"])
    assert 400 == ask(one, f"{flow}/{KEYS[min(mine)]}?min_offset={ready}:0:1").status
    assert "unknown-flow" == ask(one, "no-such/k").document["reason"]

    paid = produce(bench, payment)
    other.kill()
    # Until the group has missed the owner, the other worker says that it has it still.
    asked = ("--worker", one.address, "--min-offset", offset_of(paid[there]))
    taken = bench.edo("query", flow, there, *asked, "--timeout", f"{PATIENCE_S / 2:g}", "--json")
    assert 0 == taken.returncode, taken.stderr
    assert ("over", "complete") == (
        json.loads(taken.stdout)["state"],
        json.loads(taken.stdout)["ended"],
    )
