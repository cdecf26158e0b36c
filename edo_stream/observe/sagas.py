"""Saga instances, read from their state's changelogs and their topics of events."""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiokafka.structs import ConsumerRecord

from edo_stream.core.saga.instance import InstanceRow, decode_instance
from edo_stream.core.saga.pipeline import INSTANCE
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
