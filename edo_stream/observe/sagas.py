"""Saga instances, read from their state's changelogs and their topics of events."""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiokafka.structs import ConsumerRecord

from edo_stream.core.notices import key_json
from edo_stream.core.saga.instance import InstanceRow, StepRow, decode_instance
from edo_stream.core.saga.pipeline import INSTANCE, VERSION, VersionRow, decode_version
from edo_stream.observe.rows import read_rows, read_topics


class InstanceRows:
    """The instances in one changelog partition; takes records in log order."""

    def __init__(self) -> None:
        self.rows: dict[bytes, InstanceRow] = {}

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take a record; ``None`` deletes its row."""
        if key[:1] != INSTANCE:
            return
        if value is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = decode_instance(value)


class VersionRows:
    """The versions that the instances of one changelog partition run; takes records in order."""

    def __init__(self) -> None:
        self.rows: dict[bytes, VersionRow] = {}

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take a record; ``None`` deletes its row."""
        if key[:1] != VERSION:
            return
        if value is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = decode_version(value)


def as_document(row: InstanceRow) -> dict[str, Any]:
    """An instance as JSON has it, without its data."""
    return {
        "saga": row.saga,
        "key": key_json(row.key),
        "instance": row.id,
        "version": row.version,
        "status": row.status.value,
        "stuck": row.stuck or None,
        "reason": row.reason or None,
        "startedMs": row.started_ms,
        "endedMs": row.ended_ms,
        "dueMs": None if row.status.is_over else row.due_ms,
        "correlationId": row.correlation_id,
        "steps": {name: state.status.value for name, state in row.steps.items()},
    }


def whole_document(row: InstanceRow) -> dict[str, Any]:
    """What else there is of it: the event that started it, and its steps."""
    return {
        "event": msgspec.json.decode(row.event),
        "steps": {name: _step(state) for name, state in row.steps.items()},
    }


def _step(state: StepRow) -> dict[str, Any]:
    return {
        "status": state.status.value,
        "attempt": state.attempt,
        "command": state.command_id or None,
        "undo": state.undo_id or None,
        "undoAttempt": state.undo_attempt,
        "dueMs": state.due_ms,
        "isOverdue": state.is_overdue,
        "sinceMs": state.since_ms,
        "result": msgspec.json.decode(state.result),
        "error": state.error or None,
    }


async def read_instances(
    changelogs: Mapping[str, str], broker: Mapping[str, Any]
) -> list[InstanceRow]:
    """Read all instances that are remembered, the oldest first; ``changelogs`` are by group.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    found = await read_rows(changelogs, broker, InstanceRows)
    rows = [row for part in found.values() for row in part.rows.values()]
    return sorted(rows, key=lambda row: (row.started_ms, row.saga, row.key))


async def read_versions(
    changelogs: Mapping[str, str], broker: Mapping[str, Any]
) -> list[tuple[str, bytes, VersionRow]]:
    """Read which versions instances run: group, key of the row, row; ``changelogs`` are by group.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    found = await read_rows(changelogs, broker, VersionRows)
    counts: dict[tuple[str, bytes, str], VersionRow] = {}
    for (group, _), part in found.items():
        for key, row in part.rows.items():
            counted = counts.setdefault((group, key, row.digest), VersionRow(row.digest))
            counted.running += row.running
    return [(group, key, counts[group, key, digest]) for group, key, digest in sorted(counts)]


async def read_history(
    topic: str, instance: str, key: bytes, broker: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Read what has happened to an instance, in order, as far as its topic still has it.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    found: list[dict[str, Any]] = []

    def take(record: ConsumerRecord) -> None:
        if record.key == key:
            event = msgspec.json.decode(record.value, type=dict[str, Any])
            if event["instance"] == instance:
                found.append(event)

    await read_topics([topic], broker, take)
    return found
