"""Pausing and resuming a partition from two threads: the last word is the right one."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from edo_stream.engine import transport
from tests.engine.test_transport import PLACE, batch, consumer_on


@pytest.fixture
def thread_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_pause_that_overtakes_a_resume_holds(thread_loop: asyncio.AbstractEventLoop) -> None:
    async def run() -> None:
        consumer, client, arrived = consumer_on(thread_loop)
        for _ in range(3):
            await consumer._hand_over(batch(1))
        assert client.paused == {PLACE}
        for done in list(arrived):
            consumer.credit(done)
        # The resume is on its way, and in the same turn of the loop the marks are reached again.
        for _ in range(3):
            await consumer._hand_over(batch(1))
        await asyncio.gather(*consumer._resuming)
        assert consumer._outstanding[PLACE][0] >= transport.RECORDS_HIGH
        assert client.paused == {PLACE}

    asyncio.run(run())
