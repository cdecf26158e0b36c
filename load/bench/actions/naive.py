"""The same commands as a plain Faust application with a retry topic, the way people write it.

What fails is sent to a retry topic with the time at which it is due; the agent of that topic sleeps
until then. Nothing is lost as long as nothing crashes. ``BENCH_CONCURRENCY`` is the agent's.
"""

import asyncio
import os
import time
from typing import Any

import faust
import msgspec

from load.bench.actions.work import FailedRunError, Job, run

_RETRIES = 5
_INITIAL_S = 1.0

app = faust.App(
    os.environ["BENCH_APP"],
    broker=f"kafka://{os.environ['BENCH_BROKER']}",
    store="memory://",
    topic_partitions=1,
    topic_replication_factor=1,
    datadir=os.environ["EDO_DATA"],
    web_enabled=False,
    consumer_auto_offset_reset="earliest",
)
_RAW: dict[str, Any] = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
    "partitions": 1,
}
commands = app.topic(os.environ["BENCH_COMMANDS"], **_RAW)
retries = app.topic(os.environ["BENCH_RETRIES"], **_RAW)


@app.agent(commands, concurrency=int(os.environ["BENCH_CONCURRENCY"]))
async def first(stream: Any) -> None:
    """Run each command."""
    async for event in stream.events():
        await _attempt(event, 1, 0.0)


@app.agent(retries)
async def again(stream: Any) -> None:
    """Run each command again, when it is due."""
    async for event in stream.events():
        attempt, due_s = int(event.headers["attempt"]), float(event.headers["due"])
        await asyncio.sleep(max(0.0, due_s - time.time_ns() / 1e9))
        await _attempt(event, attempt, due_s * 1000)


async def _attempt(event: Any, attempt: int, due_ms: float) -> None:
    try:
        await run(msgspec.json.decode(event.value, type=Job), attempt, due_ms)
    except FailedRunError:
        if attempt <= _RETRIES:
            due_s = time.time_ns() / 1e9 + _INITIAL_S * 2 ** (attempt - 1)
            headers = {"attempt": b"%d" % (attempt + 1), "due": repr(due_s).encode()}
            await retries.send(key=event.key, value=event.value, headers=headers)
