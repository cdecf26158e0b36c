"""A table that every worker has in full, on a real Kafka: a kill, and a topic that grows."""

import json
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from edo_stream.core.partitioner import partition_of
from load.fleet import LocalWorker
from tests.broker.bench import Bench, Sent, event, wait_for
from tests.broker.test_lookups import ROWS
from tests.broker.test_standbys import seen

ASK = """\
name: {flow}
owner: team-tests
description: A command with the row of what the event points to.
on: {order}
lookup:
  row: {{topic: {rows}, table: global, key: subject, missing: wait, within: 1d}}
input: {{cel: "[data.id, lookup.row.id]"}}
action: {{kind: noop, idempotency_key: command, replay: safe}}
group: {flow}
partitions: 2
"""
_KEYS = 20
_EVENTS = 300


def declare(bench: Bench, folder: Path) -> tuple[str, str, str]:
    """The topic of the events, the table, and the flow."""
    order = bench.declare("order", partitions=2)
    rows, flow = bench.topic("rows"), f"{bench.name}-ask"
    (bench.contracts / rows).mkdir()
    contract = ROWS.format(name=rows).replace("partitions: 2", "partitions: 3")
    (bench.contracts / rows / "contract.yaml").write_text(contract)
    bench.apply()
    (folder / "flows").mkdir()
    text = ASK.format(flow=flow, order=order, rows=rows)
    (folder / "flows" / f"{flow}.yaml").write_text(text)
    return order, rows, flow


def placed(number: int) -> Sent:
    key = f"o-{number}"
    sent = event(key, key, partition=partition_of(key.encode(), 2))
    subject = f"c-{number % _KEYS}".encode()
    return replace(sent, headers=[*sent.headers, ("ce_subject", subject)])


def row(number: int, partition: int) -> Sent:
    return event(f"row-{number}", f"c-{number}", partition=partition)


def expected(keys: range) -> dict[str, str]:
    numbers = [number for number in range(_EVENTS) if number % _KEYS in keys]
    return {f"o-{number}": f"row-{number % _KEYS}" for number in numbers}


def rows_of(worker: LocalWorker) -> int | None:
    """How many rows it has; ``None``: it has not read all yet."""
    told = seen(worker)
    if told["unready"]:
        return None
    ((is_loaded, rows),) = {(table["isLoaded"], table["rows"]) for table in told["tables"]}
    assert is_loaded, "it was ready before it had read its table"
    return int(rows)


def test_every_task_finds_all_rows_through_a_kill_and_a_growth(
    bench: Bench, tmp_path: Path
) -> None:
    order, rows, flow = declare(bench, tmp_path)

    def found(wanted: Mapping[str, str]) -> dict[str, str] | None:
        data = [json.loads(record.value) for record in bench.read(f"edo.commands.{flow}")]
        assert len(data) == len({one for one, _ in data}), "an event has two commands"
        return dict(data) if len(data) >= len(wanted) else None

    # In whatever partition: no producer's partitioner has put them there.
    bench.send(rows, [row(number, number % 3) for number in range(8)])
    first, second = bench.worker("first"), bench.worker("second")
    for worker in (first, second):
        worker.start()
        wait_for(lambda worker=worker: rows_of(worker) == 8, "the rows of the start")
    bench.send(order, map(placed, range(_EVENTS // 2)))
    wait_for(lambda: bench.read(f"edo.commands.{flow}"), "the first commands")
    first.kill()
    bench.send(rows, [row(number, (number + 1) % 3) for number in range(8, 16)])
    bench.send(order, map(placed, range(_EVENTS // 2, _EVENTS)))
    first.start()
    wanted = expected(range(16))
    assert wanted == wait_for(lambda: found(wanted), "their rows")
    wait_for(lambda: rows_of(first) == rows_of(second) == 16, "all rows on both workers")

    bench.add_partitions(rows, 5)
    bench.send(rows, [row(number, 3 + number % 2) for number in range(16, _KEYS)])
    assert expected(range(_KEYS)) == wait_for(lambda: found(expected(range(_KEYS))), "new rows")
    assert [] == json.loads(bench.edo("waits", "list", "--json").stdout)
    assert "global table" in bench.edo("status", "--worker", first.address).stdout
    audit = bench.edo("audit")
    assert 0 == audit.returncode, audit.stdout
