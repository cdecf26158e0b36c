"""When a missing number is given up, on partitions that are busy and behind open transactions."""

import asyncio
import threading
import time

from aiokafka import AIOKafkaProducer

from edo_stream.registry.plan import GAPS
from tests.broker.bench import Bench, event, wait_for

SOON = "ordering: {policy: sequence, start: 1, gap_timeout: 1s}"


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
        began = time.monotonic()
        wait_for(lambda: skipped(bench, topic) or None, "the gap to be given up", 15.0)
        took_s = time.monotonic() - began
    finally:
        done.set()
        busy.join()

    # A loaded machine is slow, but not for as long as the load lasts.
    assert took_s < 10


def test_what_lies_behind_an_open_transaction_of_another_producer_is_waited_for(
    bench: Bench,
) -> None:
    topic = bench.declare("behind", SOON, partitions=1)
    bench.apply()
    bench.worker().start()
    bench.send(topic, [event("x-2", "x", 2)])

    async def open_then_commit() -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=bench.environment["EDO_BROKER"], transactional_id=f"other-{topic}"
        )
        await producer.start()
        await producer.begin_transaction()
        first = event("x-1", "x", 1)
        await producer.send_and_wait(
            topic, first.value, key=first.key, headers=list(first.headers), partition=0
        )
        # For much longer than the gap may last, with the missing number in the log.
        await asyncio.sleep(4)
        await producer.commit_transaction()
        await producer.stop()

    asyncio.run(open_then_commit())

    assert bench.result_ids(topic, 2) == ["x-1", "x-2"]
    assert skipped(bench, topic) == []
