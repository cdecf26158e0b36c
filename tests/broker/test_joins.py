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
    bench.send(payment, [event(key, partition=n % 2) for n, key in enumerate(keys[200:-1])])
    worker.start()
    found = wait_for(lambda: len(found := results()) >= len(keys) - 1 and found, "all results")

    assert sorted(keys[:-1]) == sorted(one["key"] for one in found)
    assert {"complete"} == {one["reason"] for one in found}
    ids = {dict(record.headers)["ce_id"] for record in bench.read(ready)}
    assert len(ids) == len(found)

    told = bench.edo("waits", "list", "--json")
    (waits,) = json.loads(told.stdout)
    assert (flow, keys[-1], ["payment"]) == (waits["flow"], waits["key"], waits["missing"])
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
