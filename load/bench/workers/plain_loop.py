"""The job by hand on aiokafka: a transaction a batch, state in dictionaries and a changelog.

What the job costs at the least with the client that the engine uses: no expiry, no accounts, no
dead letters, no bounds, and nothing on disk, so that each start reads the changelog in full.
"""

import asyncio
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from job import Job, read_job

BATCH_RECORDS_MAX = 4_000
SEEN, LINE, HELD = b"s", b"l", b"h"

Event = tuple[bytes, bytes, Sequence[tuple[str, bytes]]]
"""Key, value and headers."""
Row = tuple[bytes, bytes | None]


class Lines:
    """State of one partition."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.following: dict[bytes, int] = {}
        self.held: dict[bytes, dict[int, Event]] = {}

    def process(self, records: Iterable[Any]) -> tuple[list[Event], list[Row]]:
        """Events whose turn it is, and what to remember."""
        seen, following, held = self.seen, self.following, self.held
        results: list[Event] = []
        rows: list[Row] = []
        changed: set[bytes] = set()
        for record in records:
            headers = record.headers
            event_id = dict(headers)["ce_id"]
            if event_id in seen:
                continue
            seen.add(event_id)
            rows.append((SEEN + event_id, b""))
            key, value = record.key, record.value
            number = orjson.loads(value)["number"]
            if number > following.get(key, 1):
                held.setdefault(key, {})[number] = (key, value, headers)
                rows.append((_held_row(key, number), msgspec.msgpack.encode((value, headers))))
                continue
            results.append((key, value, headers))
            number += 1
            waiting = held.get(key)
            while waiting and (event := waiting.pop(number, None)) is not None:
                results.append(event)
                rows.append((_held_row(key, number), None))
                number += 1
            following[key] = number
            changed.add(key)
        rows += ((LINE + key, b"%d" % following[key]) for key in changed)
        return results, rows

    def restore(self, row: bytes, value: bytes | None) -> None:
        """Take one row of the changelog."""
        kind, name = row[:1], row[1:]
        if kind == SEEN:
            self.seen.add(name)
        elif kind == LINE:
            self.following[name] = int(value or b"1")
        else:
            key, _, number = name.rpartition(b"/")
            if value is None:
                self.held[key].pop(int(number), None)
            else:
                data, headers = msgspec.msgpack.decode(value)
                event = (key, data, [(name, bytes(text)) for name, text in headers])
                self.held.setdefault(key, {})[int(number)] = event


def _held_row(key: bytes, number: int) -> bytes:
    return HELD + b"%b/%d" % (key, number)


class Restorer(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads the changelog of what is assigned; records wait until that is done."""

    def __init__(self, job: Job) -> None:
        self.lines: dict[int, Lines] = {}
        # aiokafka gives out records before it has told of the assignment.
        self.is_restored = asyncio.Event()
        self._job = job

    async def on_partitions_revoked(self, revoked: Any) -> None:
        self.is_restored.clear()

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self.lines = {partition.partition: Lines() for partition in assigned}
        changelog = [TopicPartition(self._job.changelog, number) for number in self.lines]
        consumer = _consumer(self._job)
        await consumer.start()
        try:
            ends = await consumer.end_offsets(changelog)
            consumer.assign(changelog)
            await consumer.seek_to_beginning(*changelog)
            left = {partition for partition in changelog if ends[partition]}
            while left:
                for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                    restore = self.lines[partition.partition].restore
                    for record in records:
                        restore(record.key, record.value)
                left = {one for one in left if await consumer.position(one) < ends[one]}
        finally:
            await consumer.stop()
        self.is_restored.set()


def _consumer(job: Job, **settings: Any) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=job.broker,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=4 << 20,
        fetch_max_wait_ms=100,
        **settings,
    )


async def run(job: Job) -> None:
    """Batch after batch, each in a transaction."""
    producer = AIOKafkaProducer(
        bootstrap_servers=job.broker,
        transactional_id=f"{job.app}-0",
        max_batch_size=1 << 19,
        transaction_timeout_ms=10_000,
        compression_type="lz4",
    )
    restorer = Restorer(job)
    consumer = _consumer(
        job,
        group_id=job.app,
        session_timeout_ms=job.session_timeout_ms,
        heartbeat_interval_ms=2_000,
    )
    await producer.start()
    consumer.subscribe([job.input], listener=restorer)
    await consumer.start()
    is_first = True
    try:
        while True:
            fetched = await consumer.getmany(timeout_ms=200, max_records=BATCH_RECORDS_MAX)
            await restorer.is_restored.wait()
            if fetched and is_first:
                is_first = False
                job.note_start()
            if fetched:
                await _transact(job, producer, fetched, restorer.lines)
    finally:
        await consumer.stop()
        await producer.stop()


async def _transact(
    job: Job, producer: AIOKafkaProducer, fetched: Any, lines: dict[int, Lines]
) -> None:
    await producer.begin_transaction()
    deliveries = []
    for (_, partition), records in fetched.items():
        results, rows = lines[partition].process(records)
        deliveries += await _produce(producer, job.output, partition, results)
        changes = [(key, value, ()) for key, value in rows]
        deliveries += await _produce(producer, job.changelog, partition, changes)
    # aiokafka would commit although one of them has failed.
    await asyncio.gather(*deliveries)
    offsets = {partition: records[-1].offset + 1 for partition, records in fetched.items()}
    await producer.send_offsets_to_transaction(offsets, job.app)
    await producer.commit_transaction()


async def _produce(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Iterable[Any]
) -> list[Any]:
    deliveries = []
    batch = producer.create_batch()
    for key, value, headers in records:
        record = {"timestamp": None, "key": key, "value": value, "headers": list(headers)}
        if batch.append(**record) is None:
            deliveries.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(**record)
    if batch.record_count():
        deliveries.append(await producer.send_batch(batch, topic, partition=partition))
    return deliveries


async def _main() -> None:
    running = asyncio.ensure_future(run(read_job()))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    with suppress(asyncio.CancelledError):
        await running


if __name__ == "__main__":
    asyncio.run(_main())
