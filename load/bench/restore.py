"""``python -m load.bench.restore``: how fast a lost disk comes back from its changelog.

A changelog partition of rows of 100 bytes, written as a task writes them, is restored into an
empty directory by the engine's own code: reader, expansion and RocksDB. The broker has just been
written to and so has the rows in memory. The first of the runs is not counted.
"""

import asyncio
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Final

import typer
from aiokafka import AIOKafkaProducer, TopicPartition
from rich.console import Console

from edo_stream.core.state import as_is
from edo_stream.engine.admin import Admin, Wanted
from edo_stream.engine.changelog import BrokerChangelog
from edo_stream.engine.restore import TaskTable, restore
from edo_stream.engine.security import BrokerAccess
from edo_stream.engine.store import RocksDisk
from edo_stream.local.kafka import LocalKafka
from load.bench.peers import BUILD

_LOG: Final = TopicPartition("bench-restore-changelog", 0)
_KEY_BYTES: Final = 20
_VALUE_BYTES: Final = 80
_BATCH: Final = 2_000
_NOW_MS: Final = 1_700_000_000_000

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def bench(
    rows: Annotated[int, typer.Option(min=1_000, help="Rows of 100 bytes.")] = 1_000_000,
    runs: Annotated[int, typer.Option(min=1, help="Runs that count.")] = 3,
) -> None:
    """Restore a changelog and say how many rows a second that is."""
    console = Console()
    for name in ("kafka", "restore"):
        shutil.rmtree(BUILD / name, ignore_errors=True)
    with LocalKafka(BUILD / "kafka", report=console.print) as kafka:
        speeds = asyncio.run(_measure(kafka.bootstrap, rows, runs))
    shown = ", ".join(f"{speed:,.0f}" for speed in speeds)
    console.print(f"{rows:,} rows restored: median {median(speeds):,.0f} rows/s of {shown}")


async def _measure(broker: str, rows: int, runs: int) -> list[float]:
    access = BrokerAccess(broker)
    async with Admin(access) as admin:
        await admin.create([Wanted(_LOG.topic, 1)])
    await _write(access, rows)
    changelog = BrokerChangelog(access)
    try:
        speeds = [
            await _restore(changelog, BUILD / "restore" / str(run), rows) for run in range(runs + 1)
        ]
    finally:
        await changelog.close()
    return speeds[1:]


async def _write(access: BrokerAccess, rows: int) -> None:
    producer = AIOKafkaProducer(
        **access.client(
            transactional_id="bench-restore", max_batch_size=900_000, compression_type="zstd"
        )
    )
    await producer.start()
    try:
        for start in range(0, rows, _BATCH):
            await producer.begin_transaction()
            batch = producer.create_batch()
            for row in range(start, min(start + _BATCH, rows)):
                key, value = b"s%0*d" % (_KEY_BYTES - 1, row), b"%0*d" % (_VALUE_BYTES, row)
                batch.append(timestamp=_NOW_MS, key=key, value=value)
            await (await producer.send_batch(batch, _LOG.topic, partition=_LOG.partition))
            await producer.commit_transaction()
    finally:
        await producer.stop()


async def _restore(changelog: BrokerChangelog, directory: Path, rows: int) -> float:
    """Rows a second, from the first question to the last row on the disk."""
    disk = RocksDisk(directory)
    try:
        began_s = time.perf_counter()
        restored = await restore(TaskTable(_LOG, disk, as_is), changelog, _NOW_MS)
        took_s = time.perf_counter() - began_s
    finally:
        disk.close()
    assert restored.records == rows, f"{restored.records} of {rows} rows came back"
    return rows / took_s


if __name__ == "__main__":
    app()
