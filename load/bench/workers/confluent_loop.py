"""The plain loop on confluent-kafka, whose client is C: see :mod:`plain_loop`."""

import signal
import sys
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from job import Job, read_job
from plain_loop import BATCH_RECORDS_MAX, Lines

_WAIT_S = 0.05


class Received:
    """A record as :class:`plain_loop.Lines` reads it."""

    __slots__ = ("headers", "key", "value")

    def __init__(self, message: Any) -> None:
        self.headers = message.headers()
        self.key = message.key()
        self.value = message.value()


class Loop:
    """Batch after batch, each in a transaction."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._lines: dict[int, Lines] = {}
        self._is_stopping = False
        self._producer = Producer(
            {
                "bootstrap.servers": job.broker,
                "transactional.id": f"{job.app}-0",
                "transaction.timeout.ms": 10_000,
                "linger.ms": 5,
                "batch.num.messages": 100_000,
                "batch.size": 1 << 19,
                "queue.buffering.max.messages": 1_000_000,
                "compression.type": "lz4",
            }
        )
        self._consumer = Consumer(
            {
                **_reading(job),
                "group.id": job.app,
                "session.timeout.ms": job.session_timeout_ms,
                "heartbeat.interval.ms": 2_000,
            }
        )

    def stop(self) -> None:
        self._is_stopping = True

    def run(self) -> None:
        self._producer.init_transactions(30)
        self._consumer.subscribe([self._job.input], on_assign=self._restore)
        is_first = True
        while not self._is_stopping:
            messages = self._consumer.consume(BATCH_RECORDS_MAX, _WAIT_S)
            if messages and is_first:
                is_first = False
                self._job.note_start()
            if messages:
                self._transact(messages)
        self._consumer.close()

    def _transact(self, messages: list[Any]) -> None:
        job, produce = self._job, self._producer.produce
        fetched: dict[int, list[Received]] = {}
        offsets: dict[int, int] = {}
        for message in messages:
            if not message.error():
                partition = message.partition()
                fetched.setdefault(partition, []).append(Received(message))
                offsets[partition] = message.offset() + 1
        self._producer.begin_transaction()
        for partition, records in fetched.items():
            results, rows = self._lines[partition].process(records)
            for key, value, headers in results:
                produce(job.output, value, key, partition, headers=headers)
            for key, row in rows:
                produce(job.changelog, row, key, partition)
        self._producer.send_offsets_to_transaction(
            [TopicPartition(job.input, partition, offset) for partition, offset in offsets.items()],
            self._consumer.consumer_group_metadata(),
        )
        self._producer.commit_transaction()

    def _restore(self, consumer: Any, assigned: list[Any]) -> None:
        self._lines = {partition.partition: Lines() for partition in assigned}
        reader = Consumer(
            {
                **_reading(self._job),
                "group.id": f"{self._job.app}-restore",
                "enable.partition.eof": 1,
            }
        )
        reader.assign([TopicPartition(self._job.changelog, number, 0) for number in self._lines])
        left = set(self._lines)
        while left:
            for message in reader.consume(5_000, 0.5):
                if not message.error():
                    self._lines[message.partition()].restore(message.key(), message.value())
                elif message.error().code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - has no other name
                    left.discard(message.partition())
        reader.close()


def _reading(job: Job) -> dict[str, Any]:
    return {
        "bootstrap.servers": job.broker,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 32_768,
    }


if __name__ == "__main__":
    loop = Loop(read_job())
    signal.signal(signal.SIGTERM, lambda *_: loop.stop())
    loop.run()
    sys.exit(0)
