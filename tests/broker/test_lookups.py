"""Lookups, a split and its gathering on a real Kafka, through a worker that is killed."""

import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from edo_stream.core.partitioner import partition_of
from tests.broker.bench import Bench, Sent, event, wait_for

ROWS = """\
name: {name}
owner: team-tests
description: Rows by their keys.
codec: cloudevents
partitions: 2
cleanup: compact
"""
ASK = """\
name: {flow}
owner: team-tests
description: A command for each of two elements, with the row of the event's key.
on: {order}
lookup:
  row: {{topic: {rows}, key: subject, missing: wait, within: 1d}}
split: {{cel: "[data.id, lookup.row.id]"}}
action: {{kind: noop, idempotency_key: command, replay: safe}}
group: {flow}
partitions: 2
"""
GATHER = """\
name: {flow}-all
owner: team-tests
description: What became of both.
when: {{gather: {flow}, within: 1d, group: {flow}-all, partitions: 2}}
emit: {{topic: {ready}}}
"""


def placed(key: str) -> Sent:
    sent = event(f"o-{key}", key, partition=partition_of(key.encode(), 2))
    return replace(sent, headers=[*sent.headers, ("ce_subject", key.encode())])


def row(key: str) -> Sent:
    return event(f"row-{key}", key, partition=partition_of(key.encode(), 2))


def test_events_find_their_rows_and_each_is_gathered_once_through_a_kill(
    bench: Bench, tmp_path: Path
) -> None:
    order = bench.declare("order", partitions=2)
    ready = bench.declare("ready", partitions=2)
    rows, flow = bench.topic("rows"), f"{bench.name}-ask"
    (bench.contracts / rows).mkdir()
    (bench.contracts / rows / "contract.yaml").write_text(ROWS.format(name=rows))
    bench.apply()
    (tmp_path / "flows").mkdir()
    names = {"flow": flow, "order": order, "rows": rows, "ready": ready}
    (tmp_path / "flows" / f"{flow}.yaml").write_text(ASK.format(**names))
    (tmp_path / "flows" / f"{flow}-all.yaml").write_text(GATHER.format(**names))
    keys = [f"c-{number}" for number in range(200)]

    def gathered() -> dict[str, Any]:
        found = [json.loads(record.value) for record in bench.read(ready)]
        assert len(found) == len({one["key"] for one in found})
        return {one["key"]: one for one in found}

    bench.send(rows, [row(key) for key in keys[:100]])
    worker = bench.worker()
    worker.start()
    bench.send(order, [placed(key) for key in keys])
    wait_for(lambda: len(gathered()) > 20, "the first that are gathered")
    worker.kill()
    bench.send(rows, [row(key) for key in keys[100:-1]])
    worker.start()
    found = wait_for(lambda: len(found := gathered()) >= len(keys) - 1 and found, "all the others")

    assert {f"o-{key}" for key in keys[:-1]} == set(found)
    assert {("complete", 2)} == {(one["reason"], one["count"]) for one in found.values()}
    (wait,) = json.loads(bench.edo("waits", "list", "--json").stdout)
    told = (wait["flow"], wait["key"], wait["missing"], wait["count"])
    assert (flow, keys[-1], ["lookup.row"], 1) == told
    expired = bench.edo("waits", "expire", flow, keys[-1])
    assert 0 == expired.returncode, expired.stderr
    (letter,) = wait_for(lambda: bench.read(f"edo.dead-letters.{flow}"), "its dead letter")
    assert b"no-row" == dict(letter.headers)["edo-reason"]
    again = bench.edo("dlq", "redrive", "--flow", flow)
    assert "1 sent again" in again.stdout, again.stderr
    bench.send(rows, [row(keys[-1])])
    found = wait_for(lambda: len(found := gathered()) == len(keys) and found, "the last one")
    assert "complete" == found[f"o-{keys[-1]}"]["reason"]
    audit = bench.edo("audit")
    assert 0 == audit.returncode, audit.stdout
