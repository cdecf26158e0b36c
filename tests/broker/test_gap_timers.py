"""When a missing number is given up, on partitions that are busy and behind open transactions."""

import asyncio
import threading

from aiokafka import AIOKafkaProducer

from edo_stream.registry.plan import GAPS
from load.fleet import LocalWorker
from tests.broker.bench import Bench, Sent, event, wait_for
from tests.broker.test_observe import total

SOON = "ordering: {policy: sequence, start: 1, gap_timeout: 1s}"
#: Long enough for two records to be written one after the other.
LATER_S = 8
LATER = f"ordering: {{policy: sequence, start: 1, gap_timeout: {LATER_S}s}}"


def skipped(bench: Bench, topic: str) -> list[bytes]:
    return [record.value for record in bench.read(GAPS) if topic.encode() in record.value]


def test_a_gap_is_given_up_in_time_on_a_partition_that_is_never_idle(bench: Bench) -> None:
    topic = bench.declare("busy", SOON, partitions=1)
    bench.apply()
    bench.worker().start()
    done = threading.Event()

    async def keep_busy() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=bench.environment["EDO_BROKER"])
        await producer.start()
        number = 0
        while not done.is_set():
            for _ in range(10):
                number += 1
                sent = event(f"b-{number}", "busy", number)
                await producer.send(
                    topic, sent.value, key=sent.key, headers=list(sent.headers), partition=0
                )
            await asyncio.sleep(0.02)
        await producer.stop()

    busy = threading.Thread(target=lambda: asyncio.run(keep_busy()))
    busy.start()
    try:
        bench.send(topic, [event("x-2", "x", 2)])
        # A loaded machine is slow, but not for as long as the load lasts.
        wait_for(lambda: skipped(bench, topic) or None, "the gap to be given up")
    finally:
        done.set()
        busy.join()


def test_what_lies_behind_an_open_transaction_of_another_producer_is_waited_for(
    bench: Bench,
) -> None:
    topic = bench.declare("behind", LATER, partitions=1)
    bench.apply()
    worker = bench.worker()
    worker.start()

    async def send(producer: AIOKafkaProducer, sent: Sent) -> None:
        await producer.send_and_wait(
            topic, sent.value, key=sent.key, headers=list(sent.headers), partition=0
        )

    async def open_then_commit() -> None:
        broker = bench.environment["EDO_BROKER"]
        plain = AIOKafkaProducer(bootstrap_servers=broker)
        other = AIOKafkaProducer(bootstrap_servers=broker, transactional_id=f"other-{topic}")
        async with plain, other:
            # Both are at work before the gap opens, so that its clock runs for no start of theirs.
            await send(plain, event("y-1", "y", 1))
            async with other.transaction():
                await send(other, event("y-2", "y", 2))
            await other.begin_transaction()
            await send(plain, event("x-2", "x", 2))
            await send(other, event("x-1", "x", 1))
            await asyncio.to_thread(wait_for, lambda: held(worker, topic) == 1, "the gap")
            # For longer than the gap may last, with the missing number in the log.
            await asyncio.sleep(LATER_S + 3)
            await other.commit_transaction()

    asyncio.run(open_then_commit())

    assert bench.result_ids(topic, 4) == ["y-1", "y-2", "x-1", "x-2"]
    assert skipped(bench, topic) == []


def held(worker: LocalWorker, topic: str) -> float:
    return total(worker, "edo_held_records", topic=topic)
