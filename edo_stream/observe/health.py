"""What a worker answers when it is asked how it is: alive, ready, and how its tasks stand."""

from collections.abc import Callable
from typing import Final

import msgspec

from edo_stream.views import Page, Phase, TableView, TaskView, WorkerView

_JSON: Final = "application/json"
_OK: Final = 200
_UNAVAILABLE: Final = 503


def stuck_reasons(worker: WorkerView) -> list[str]:
    """Why the process should be started anew; empty when it should not.

    A broker that is away is no reason: tasks wait for it and go on, and a new process could do
    no more.
    """
    limit_ms = worker.stuck_after_ms
    reasons = [
        f"task {task.name} has work and has not got on for {task.still_ms / 1000:.0f} s"
        for task in worker.tasks
        if task.phase is Phase.RUNNING and task.has_work and task.still_ms > limit_ms
    ]
    fetched_ms_ago = worker.fetched_ms_ago
    if fetched_ms_ago is not None and fetched_ms_ago > limit_ms:
        reasons.append(f"no records were asked for in {fetched_ms_ago / 1000:.0f} s")
    return reasons


def unready_reasons(worker: WorkerView) -> list[str]:
    """Why the worker does not process all that is its own; empty when it does."""
    if not worker.is_assigned:
        return ["the consumer group has not told which partitions are this worker's"]
    tables = [
        f"global table {table.topic} is being read: {_lag(table)} offsets to go"
        for table in worker.tables
        if not table.is_loaded
    ]
    return [*tables, *(_unready(task) for task in worker.tasks if task.phase is not Phase.RUNNING)]


def _lag(table: TableView) -> str:
    return "an unknown number of" if table.lag_records is None else str(table.lag_records)


def _unready(task: TaskView) -> str:
    if task.refusal is not None:
        return f"task {task.name} has stopped: {task.refusal}"
    return f"task {task.name} is {task.phase.value}"


def health_page(look: Callable[[], WorkerView]) -> Callable[[], Page]:
    """Liveness: 503 when only a new process can help."""
    return lambda: _verdict(stuck_reasons(look()))


def ready_page(look: Callable[[], WorkerView]) -> Callable[[], Page]:
    """Readiness: 503 until all tasks of this worker process."""
    return lambda: _verdict(unready_reasons(look()))


def status_page(look: Callable[[], WorkerView]) -> Callable[[], Page]:
    """All that can be seen, and both verdicts."""

    def answer() -> Page:
        worker = look()
        told = {
            "stuck": stuck_reasons(worker),
            "unready": unready_reasons(worker),
            **msgspec.to_builtins(worker),
        }
        return Page(_OK, _JSON, msgspec.json.encode(told))

    return answer


def _verdict(reasons: list[str]) -> Page:
    status = _UNAVAILABLE if reasons else _OK
    return Page(status, _JSON, msgspec.json.encode({"ok": not reasons, "reasons": reasons}))
