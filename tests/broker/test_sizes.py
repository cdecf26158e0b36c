"""What is larger than its topic takes, on a real Kafka: it is a dead letter, and stops nobody."""

import json
import random
from base64 import b64encode
from pathlib import Path

from msgspec.structs import replace

from tests.broker.bench import Bench, Sent, event, wait_for
from tests.broker.test_lookups import GATHER, ROWS

MIB = 1 << 20
ASK = """\
name: {flow}
owner: team-tests
description: A command for each of the event's lines, with the row of its key.
on: {order}
lookup:
  row: {{topic: {rows}, key: subject, missing: "null"}}
split: /lines
input: {{cel: "[element, lookup.row]"}}
action: {{kind: noop, idempotency_key: command, replay: safe}}
group: {flow}
partitions: 1
"""


def noise(count: int) -> str:
    """Text that hardly compresses."""
    return b64encode(random.Random(count).randbytes(count * 3 // 4)).decode()


def test_events_rows_and_results_that_fit_no_topic_stop_nobody(
    bench: Bench, tmp_path: Path
) -> None:
    order = bench.declare("order", "record_bytes_max: 4MiB")
    ready = bench.declare("ready")
    rows, flow = bench.topic("rows"), f"{bench.name}-ask"
    (bench.contracts / rows).mkdir()
    text = ROWS.format(name=rows).replace("partitions: 2", "partitions: 1")
    (bench.contracts / rows / "contract.yaml").write_text(text)
    bench.apply()
    (tmp_path / "flows").mkdir()
    names = {"flow": flow, "order": order, "rows": rows, "ready": ready}
    (tmp_path / "flows" / f"{flow}.yaml").write_text(ASK.format(**names))
    gather = GATHER.format(**names).replace("partitions: 2", "partitions: 1")
    (tmp_path / "flows" / f"{flow}-all.yaml").write_text(gather)

    def placed(key: str, more: str = "") -> Sent:
        sent = event(key, key)
        value = json.dumps({"lines": [1, 2], "more": more}).encode()
        return replace(sent, value=value, headers=[*sent.headers, ("ce_subject", key.encode())])

    def row(key: str, more: str) -> Sent:
        return replace(event(f"row-{key}", key), value=json.dumps({"more": more}).encode())

    # Compressed it is taken; what a state has is not compressed.
    bench.send(rows, [row("a", "first"), row("a", "x" * 6 * MIB), row("b", "other")], "gzip")
    worker = bench.worker()
    worker.start()
    bench.send(order, [placed("a", noise(2_900_000)), placed("b"), placed("c", noise(900_000))])
    # Larger than its topic takes, and compressed.
    bench.send(order, [placed("d", "x" * 6 * MIB), placed("e")], "gzip")

    def gathered() -> dict[str, str]:
        return {
            (found := json.loads(one.value))["key"]: found["reason"] for one in bench.read(ready)
        }

    wait_for(lambda: {"b", "e"} <= set(gathered()), "what fits is gathered")
    letters = {one.key: dict(one.headers) for one in bench.read(f"edo.dead-letters.{flow}")}
    assert {b"a": b"too-large"} == {key: said["edo-reason"] for key, said in letters.items()}
    assert b"true" == letters[b"a"]["edo-reference"]
    (invalid,) = bench.read(f"edo.dead-letters.{order}")
    assert (b"d", b"too-large") == (invalid.key, dict(invalid.headers)["edo-reason"])
    refused = [dict(one.headers) for one in bench.read("edo.dead-letters.lookups-1")]
    assert [b"too-large"] == [
        said["edo-reason"] for said in refused if rows.encode() in said["edo-origin"]
    ]
    audit = bench.edo("audit")
    assert 0 == audit.returncode, audit.stdout
