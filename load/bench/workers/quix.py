"""The job with Quix Streams: one stateful function over a stream of JSON.

``BENCH_COMMIT_S`` is the time between two commits; Quix's own is 5 s.
"""

from collections.abc import Iterator
from typing import Any

from job import option, read_job
from quixstreams import Application

job = read_job()
app = Application(
    broker_address=job.broker,
    consumer_group=job.app,
    auto_offset_reset="earliest",
    processing_guarantee="exactly-once",
    commit_interval=float(option("COMMIT_S", "5")),
    state_dir=str(job.directory / "quix"),
    consumer_extra_config={
        "session.timeout.ms": job.session_timeout_ms,
        "heartbeat.interval.ms": 2_000,
    },
)
has_begun = False


def restore_order(data: Any, key: Any, timestamp: int, headers: Any, state: Any) -> list[Any]:
    """Give the events whose turn it is, each with its headers."""
    global has_begun  # noqa: PLW0603 - Quix calls functions, it makes no objects
    if not has_begun:
        has_begun = True
        job.note_start()
    attributes = {name: value.decode() for name, value in headers}
    seen = f"seen/{attributes['ce_id']}"
    if state.exists(seen):
        return []
    state.set(seen, 1)
    line = state.get("line") or {"next": 1, "held": {}}
    number = data["number"]
    ready = list(_released(line, number, [data, attributes]))
    state.set("line", line)
    return ready


def _released(line: Any, number: int, event: Any) -> Iterator[Any]:
    if number > line["next"]:
        line["held"][str(number)] = event
        return
    yield event
    line["next"] = number + 1
    while following := line["held"].pop(str(line["next"]), None):
        yield following
        line["next"] += 1


source = app.topic(job.input, key_deserializer="bytes", value_deserializer="json")
result = app.topic(job.output, key_serializer="bytes", value_serializer="json")
stream = app.dataframe(source)
stream = stream.apply(restore_order, stateful=True, expand=True, metadata=True)
# A released event has headers of its own, not those of the event that released it.
stream = stream.set_headers(lambda event, key, timestamp, headers: list(event[1].items()))
stream = stream.apply(lambda event: event[0])
stream.to_topic(result)

if __name__ == "__main__":
    app.run()
