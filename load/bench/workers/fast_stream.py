"""The job with FastStream: a handler a record; the state is the process's, there is no other."""

import asyncio
import logging
from typing import Any

from faststream import FastStream
from faststream.kafka import KafkaBroker, KafkaMessage
from job import read_job

job = read_job()
broker = KafkaBroker(job.broker)
app = FastStream(broker)
seen: set[str] = set()
following: dict[bytes, int] = {}
held: dict[bytes, dict[int, Any]] = {}


@broker.subscriber(
    job.input,
    group_id=job.app,
    auto_offset_reset="earliest",
    session_timeout_ms=job.session_timeout_ms,
)
async def restore_order(data: dict[str, Any], message: KafkaMessage) -> None:
    """Emit each event once, in its turn."""
    if not seen:
        job.note_start()
    headers = message.headers
    if headers["ce_id"] in seen:
        return
    seen.add(headers["ce_id"])
    key, number = message.raw_message.key, data["number"]
    waiting = held.setdefault(key, {})
    if number > following.get(key, 1):
        waiting[number] = (data, headers)
        return
    await broker.publish(data, job.output, key=key, headers=headers)
    number += 1
    while one := waiting.pop(number, None):
        await broker.publish(one[0], job.output, key=key, headers=one[1])
        number += 1
    following[key] = number


if __name__ == "__main__":
    logging.disable(logging.INFO)
    asyncio.run(app.run())
