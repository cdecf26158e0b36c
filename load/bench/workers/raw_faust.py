"""The job as a Faust application with two tables, the way Faust's documentation has it.

``BENCH_GUARANTEE`` is Faust's ``processing_guarantee``; the other settings are Faust's own.
"""

from typing import Any

import faust
from job import option, read_job

job = read_job()
app = faust.App(
    job.app,
    broker=f"kafka://{job.broker}",
    store="rocksdb://",
    processing_guarantee=option("GUARANTEE", "at_least_once"),
    topic_partitions=job.partitions,
    topic_replication_factor=1,
    datadir=str(job.directory / "faust"),
    web_enabled=False,
    consumer_auto_offset_reset="earliest",
    broker_session_timeout=job.session_timeout_ms / 1_000,
    broker_heartbeat_interval=2.0,
)
source = app.topic(job.input, partitions=job.partitions, key_type=bytes, key_serializer="raw")
result = app.topic(job.output, partitions=job.partitions, key_type=bytes, key_serializer="raw")
seen = app.Table("seen", partitions=job.partitions)
lines = app.Table("lines", partitions=job.partitions)


@app.agent(source)
async def restore_order(stream: Any) -> None:
    """Emit each event once, in its turn."""
    is_first = True
    async for event in stream.events():
        if is_first:
            is_first = False
            job.note_start()
        headers = {name: value.decode() for name, value in event.headers.items()}
        if headers["ce_id"] in seen:
            continue
        seen[headers["ce_id"]] = 1
        data, key = event.value, event.key.decode()
        line = lines.get(key) or {"next": 1, "held": {}}
        number = data["number"]
        if number > line["next"]:
            line["held"][str(number)] = [data, headers]
            lines[key] = line
            continue
        await _emit(event.key, data, headers)
        line["next"] = number + 1
        while following := line["held"].pop(str(line["next"]), None):
            await _emit(event.key, *following)
            line["next"] += 1
        lines[key] = line


async def _emit(key: bytes, data: Any, headers: dict[str, str]) -> None:
    await result.send(
        key=key, value=data, headers={name: value.encode() for name, value in headers.items()}
    )


if __name__ == "__main__":
    app.main()
