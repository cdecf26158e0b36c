"""Flows that wait on a real Kafka: a worker that is killed, and an operator who looks."""

import json
import re
from pathlib import Path
from typing import Any

from tests.broker.bench import Bench, event, wait_for

FLOW = """\
name: {name}
owner: team-tests
description: Orders that are paid.
when:
  all:
    order: {{topic: {order}, key: /id}}
    payment: {{topic: {payment}, key: /id}}
  within: 1d
  on_timeout: dead-letter
  history: true
  group: {name}
  partitions: 2
emit: {{topic: {ready}}}
"""


def test_each_pair_fires_once_through_a_kill_and_what_waits_is_shown(
    bench: Bench, tmp_path: Path
) -> None:
    topics = [bench.declare(last, partitions=2) for last in ("order", "payment", "ready")]
    order, payment, ready = topics
    bench.apply()
    flow = f"{bench.name}-pairs"
    (tmp_path / "flows").mkdir()
    text = FLOW.format(name=flow, order=order, payment=payment, ready=ready)
    (tmp_path / "flows" / f"{flow}.yaml").write_text(text)
    worker = bench.worker()
    worker.start()
    keys = [f"o-{number}" for number in range(400)]

    def results() -> list[Any]:
        return [json.loads(record.value) for record in bench.read(ready)]

    bench.send(order, [event(key, f"c{n}", partition=n % 2) for n, key in enumerate(keys)])
    bench.send(payment, [event(key, partition=n % 2) for n, key in enumerate(keys[:200])])
    wait_for(lambda: len(results()) > 50, "the first results")
    worker.kill()
    bench.send(payment, [event(key, partition=n % 2) for n, key in enumerate(keys[200:-2])])
    worker.start()
    found = wait_for(lambda: len(found := results()) >= len(keys) - 2 and found, "all results")

    assert sorted(keys[:-2]) == sorted(one["key"] for one in found)
    assert {"complete"} == {one["reason"] for one in found}
    ids = {dict(record.headers)["ce_id"] for record in bench.read(ready)}
    assert len(ids) == len(found)

    told = bench.edo("waits", "list", "--json")
    waits = json.loads(told.stdout)
    assert [(flow, key, ["payment"]) for key in sorted(keys[-2:])] == sorted(
        (one["flow"], one["key"], one["missing"]) for one in waits
    )
    shown = bench.edo("waits", "show", flow, keys[0])
    # Which of the two came last is for nobody to say: they are on topics of their own.
    assert re.search("complete, by (order|payment)", shown.stdout), shown.stderr
    told = bench.edo("waits", "show", flow, keys[0], "--history", "--json")
    assert 0 == told.returncode, told.stderr
    history = json.loads(told.stdout)
    assert ["opened", "completed"] == [one["change"] for one in history["history"]]
    forced = bench.edo("waits", "force", flow, keys[-1])
    assert 0 == forced.returncode, forced.stderr
    last = wait_for(lambda: [one for one in results() if one["key"] == keys[-1]], "the forced one")
    assert [("forced", "operator", ["payment"])] == [
        (one["reason"], one["completed_by"], one["missing"]) for one in last
    ]

    _judge_redrive(bench, flow, keys[-2], (payment, ready))
    _judge_audit(bench, flow, len(keys))


def _judge_audit(bench: Bench, flow: str, count: int) -> None:
    audited = bench.edo("audit", "--json")
    report = json.loads(audited.stdout)
    assert 0 == audited.returncode, report["findings"]
    tally = report["topics"][f"edo.joins.{flow}"]
    # The last wait was forced without its payment; one was a letter before it was sent again.
    assert (2 * count - 1, 1) == (tally["emitted"], tally["dead_lettered"])


def _judge_redrive(bench: Bench, flow: str, key: str, topics: tuple[str, str]) -> None:
    """An order whose wait was given up is sent again to it, and is paid after all."""
    for _ in ("ends it", "forgets it"):
        assert 0 == bench.edo("waits", "expire", flow, key).returncode
    sent = bench.edo("dlq", "redrive", "--flow", flow)
    assert "1 sent again" in sent.stdout, sent.stderr
    payment, ready = topics
    bench.send(payment, [event(key, "paid")])
    wait_for(
        lambda: [one for one in bench.read(ready) if one.key == key.encode()],
        "the result of what was sent again",
    )
