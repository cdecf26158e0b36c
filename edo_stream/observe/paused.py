"""Flows that an operator has paused, read from the state's changelogs while workers go on."""

from collections.abc import Mapping
from typing import Any

import msgspec

from edo_stream.core.act.switches import PAUSED, Paused, decode_paused
from edo_stream.observe.rows import read_rows


class PausedFlow(msgspec.Struct, frozen=True, rename="camel"):
    """A flow of which nothing begins."""

    since_ms: int
    by: str
    reason: str
    partitions: tuple[int, ...]
    """Of its group; all of them, unless a task has not heard of it yet."""


class _PausedRows:
    def __init__(self) -> None:
        self.flows: dict[str, Paused] = {}

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take a record; ``None`` deletes its row."""
        if key[:1] != PAUSED:
            return
        if value is None:
            self.flows.pop(key[1:].decode(), None)
        else:
            self.flows[key[1:].decode()] = decode_paused(value)


async def read_paused(
    changelogs: Mapping[str, str], broker: Mapping[str, Any]
) -> dict[str, PausedFlow]:
    """Read which flows are paused now; ``changelogs`` are the state's topics, by group of flows.

    Raises:
        KafkaError: the broker cannot be reached, or gives nothing for half a minute.
    """
    rows = await read_rows(changelogs, broker, _PausedRows)
    found: dict[str, dict[int, Paused]] = {}
    for (_, partition), paused in sorted(rows.items(), key=lambda item: item[0]):
        for flow, one in paused.flows.items():
            found.setdefault(flow, {})[partition] = one
    return {flow: _of_all(told) for flow, told in found.items()}


def _of_all(told: Mapping[int, Paused]) -> PausedFlow:
    first = min(told.values(), key=lambda one: one.since_ms)
    return PausedFlow(first.since_ms, first.by, first.reason, tuple(told))
