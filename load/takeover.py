"""How long a killed worker's task is away, with a standby and without: ``python -m load.takeover``.

Two workers and one task, whose state has a row and a remembered id per key. The task's worker is
killed (kill -9) while all is quiet, an event is sent, and its result waited for. What the group
takes to miss the worker is the same in both runs, a session timeout after its last heartbeat; what
differs is the restore.
"""

import asyncio
import json
import re
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from rich.console import Console
from rich.table import Table

from edo_stream.engine.admin import Admin
from edo_stream.engine.plans import wanted_topics
from edo_stream.engine.security import BrokerAccess
from edo_stream.local.kafka import LocalKafka
from edo_stream.registry import load
from load.fleet import LocalWorker

_CONTRACT: Final = """\
name: {topic}
owner: team-load
description: Something happened, once for each key.
codec: cloudevents
partitions: 1
group: {service}
emit: {{topic: {topic}.out}}
ordering: {{policy: sequence, start: 1}}
"""
_SESSION_TIMEOUT_S: Final = 6.0
_PATIENCE_S: Final = 600.0
_POLL_S: Final = 0.1
_BATCH_BYTES: Final = 512 << 10

app = typer.Typer(add_completion=False)


class Takeover(msgspec.Struct, frozen=True):
    """What one run has measured."""

    standbys: int
    rows: int
    away_s: float
    """From the kill to the first result of another worker."""
    restore_s: float
    restored_records: int
    """Changelog records that the restore read; one of the ids' has those of a transaction."""


@app.command()
def takeover(
    rows: Annotated[int, typer.Option(min=1, help="Keys, each with a row and an id.")] = 1_000_000,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Measure a takeover with a standby and one without."""
    console = Console(stderr=True)
    found = []
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder) / "kafka") as kafka:
        for standbys in (0, 1):
            console.print(f"{rows:,} rows, standbys: {standbys} …")
            found.append(_run(Path(folder), kafka.bootstrap, rows, standbys))
    if as_json:
        print(json.dumps(msgspec.to_builtins(found)))
    else:
        Console().print(_table(found))


def _table(found: list[Takeover]) -> Table:
    table = Table("standbys", "away", "restore", "records read")
    for one in found:
        table.add_row(
            str(one.standbys),
            f"{one.away_s:.1f} s",
            f"{one.restore_s:.2f} s",
            f"{one.restored_records:,}",
        )
    return table


def _run(folder: Path, broker: str, rows: int, standbys: int) -> Takeover:
    service = f"takeover-{standbys}"
    topic = f"load.takeover-{standbys}.done"
    contracts = folder / service / "topics"
    (contracts / topic).mkdir(parents=True)
    text = _CONTRACT.format(topic=topic, service=service)
    (contracts / topic / "contract.yaml").write_text(text, encoding="utf-8")
    asyncio.run(_create(broker, contracts, f"{service}-decide"))
    environment = {
        "EDO_BROKER": broker,
        "EDO_SERVICE": service,
        "EDO_TOPICS": str(contracts),
        "EDO_STANDBYS": str(standbys),
        "EDO_SESSION_TIMEOUT_MS": str(int(_SESSION_TIMEOUT_S * 1000)),
        "EDO_HEARTBEAT_INTERVAL_MS": "1000",
    }
    with ExitStack() as stack:
        workers = [LocalWorker(folder / service / name, environment) for name in ("a", "b")]
        for worker in workers:
            worker.launch()
            stack.callback(worker.kill)
        for worker in workers:
            worker.wait_ready(60.0)
        asyncio.run(_send(broker, topic, 0, rows))
        _until(lambda: _is_quiet(workers, rows, standbys))
        owner, other = sorted(workers, key=lambda one: -len(_seen(one)["tasks"]))
        before_s = _restore_s(other)
        killed_at = time.monotonic()
        owner.kill()
        asyncio.run(_send_and_wait(broker, topic, rows))
        away_s = time.monotonic() - killed_at
        (task,) = _seen(other)["tasks"]
        return Takeover(
            standbys, rows, away_s, _restore_s(other) - before_s, task["restoredRecords"]
        )


async def _create(broker: str, contracts: Path, app_id: str) -> None:
    async with Admin(BrokerAccess(broker)) as admin:
        await admin.create(wanted_topics(load(contracts), app_id, 1))


def _is_quiet(workers: list[LocalWorker], rows: int, standbys: int) -> bool:
    """Whether everything is processed, and on the disk of the standby as well."""
    told = [_seen(worker) for worker in workers]
    sources = [s for one in told for task in one["tasks"] for s in task["sources"]]
    lags = [standby["lagRecords"] for one in told for standby in one["standbys"]]
    return lags == [0] * standbys and any(
        source["nextOffset"] is not None and source["nextOffset"] >= rows for source in sources
    )


def _until(is_so: Any) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {_PATIENCE_S:.0f} s")
        time.sleep(_POLL_S)


def _get(worker: LocalWorker, page: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{worker.port}/{page}", timeout=30) as answer:
        body: bytes = answer.read()
        return body


def _seen(worker: LocalWorker) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(_get(worker, "status"))
    return told


def _restore_s(worker: LocalWorker) -> float:
    sums = re.findall(rb"^edo_restore_seconds_sum\S* (\S+)$", _get(worker, "metrics"), re.MULTILINE)
    return sum(map(float, sums))


def _events(first: int, count: int) -> Iterator[tuple[bytes, bytes, list[tuple[str, bytes]]]]:
    for number in range(first, first + count):
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_id", b"takeover-of-a-killed-worker-%012d" % number),
            ("ce_source", b"/load/takeover"),
            ("ce_type", b"load.takeover.done"),
            ("ce_sequence", b"1"),
        ]
        yield b"key-%09d" % number, b"{}", headers


async def _send(broker: str, topic: str, first: int, count: int) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=broker, enable_idempotence=True, max_batch_size=_BATCH_BYTES
    )
    await producer.start()
    try:
        pending = []
        batch = producer.create_batch()
        for key, value, headers in _events(first, count):
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                pending.append(await producer.send_batch(batch, topic, partition=0))
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None, headers=headers)
        pending.append(await producer.send_batch(batch, topic, partition=0))
        await asyncio.gather(*pending)
    finally:
        await producer.stop()


async def _send_and_wait(broker: str, topic: str, number: int) -> None:
    """Send one event, and wait until a reader of results has its result."""
    consumer = AIOKafkaConsumer(
        f"{topic}.out",
        bootstrap_servers=broker,
        isolation_level="read_committed",
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        await consumer.seek_to_end()
        await _send(broker, topic, number, 1)
        async with asyncio.timeout(_PATIENCE_S):
            while not any((await consumer.getmany(timeout_ms=100)).values()):
                pass
    finally:
        await consumer.stop()


if __name__ == "__main__":
    app()
