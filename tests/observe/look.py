"""Views of workers with the values that the tests do not care about."""

from typing import Any

from edo_stream.views import DiskView, Phase, SourceView, TaskView, WorkerView


def source(**parts: Any) -> SourceView:
    values: dict[str, Any] = {
        "topic": "t.thing.done",
        "next_offset": 10,
        "end_offset": 10,
        "lag_records": 0,
        "lag_ms": 0,
        "held": 0,
        "held_since_ms": None,
    }
    return SourceView(**{**values, **parts})


def task(*sources: SourceView, **parts: Any) -> TaskView:
    values: dict[str, Any] = {
        "group": "g",
        "partition": 0,
        "phase": Phase.RUNNING,
        "refusal": None,
        "sources": sources,
        "transactions": 0,
        "resets": 0,
        "fences": 0,
        "rewinds": 0,
        "restored_records": 0,
        "has_work": False,
        "still_ms": 0,
    }
    return TaskView(**{**values, **parts})


def worker(*tasks: TaskView, **parts: Any) -> WorkerView:
    values: dict[str, Any] = {
        "app": "edo-decide",
        "version": "1",
        "is_assigned": True,
        "fetched_ms_ago": 5,
        "stuck_after_ms": 30_000,
        "tasks": tasks,
        "disks": tuple(DiskView(one.group, one.partition, 100, 200) for one in tasks),
    }
    return WorkerView(**{**values, **parts})
