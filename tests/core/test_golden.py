"""Rows of released versions still decode: state outlives the code that wrote it.

A new version adds a file and leaves the old ones alone. ``expected`` is how the row reads now.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edo_stream.core.contract import MonotonicOrder, SequenceOrder
from edo_stream.core.dedupe import expand_ids
from edo_stream.core.monotonic import decode_reached
from edo_stream.core.record import StoredRecord
from edo_stream.core.sequence import decode_sequence
from edo_stream.core.task import TASK_KEY, TaskRow
from tests.core.bench import NOW_MS, Bench, contract, numbered

GOLDEN = Path(__file__).parent / "golden"


def held(value: bytes) -> Any:
    return int.from_bytes(value[:8], "big"), msgspec.msgpack.decode(value[8:], type=StoredRecord)


READERS: dict[str, Callable[[bytes], Any]] = {
    "task": lambda value: msgspec.msgpack.decode(value, type=TaskRow),
    "sequence": decode_sequence,
    "reached": decode_reached,
    "held": held,
    "timer": lambda value: value,
    "ids": lambda value: list(expand_ids(b"k", value)),
}


def rows() -> dict[str, tuple[bytes, bytes]]:
    """One row of each kind as this version writes them."""
    task = Bench(
        [
            contract(SequenceOrder(start=1, idle_ttl_ms=3_000)),
            contract(MonotonicOrder(idle_ttl_ms=3_000), topic="crm.page.changed"),
        ]
    )
    task.feed(
        numbered(0, 3, bad="broken"),
        numbered(1, 5, headers=[("a", b"1"), ("null", None)]),
        numbered(0, -(2**70), topic="crm.page.changed"),
    )
    # Time goes on, so that the look for idle keys shows in the task's row.
    later_ms = NOW_MS + 1_000
    task.feed(numbered(2, 1, b"another", timestamp=later_ms), now_ms=later_ms)
    kinds = {b"s": "sequence", b"r": "reached", b"h": "held", b"t": "timer", TASK_KEY: "task"}
    found = {kinds[key[:1]]: (key, value) for key, value in sorted(task.state_rows.rows.items())}
    key, value = task.ids_log.records[0]
    assert value is not None
    return {**found, "ids": (key, value)}


def plain(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
@pytest.mark.parametrize("kind", READERS)
def test_a_row_of_a_released_version_decodes(path: Path, kind: str) -> None:
    golden = json.loads(path.read_text())[kind]
    assert golden["expected"] == plain(READERS[kind](bytes.fromhex(golden["value"])))


def test_this_version_writes_what_its_golden_file_says() -> None:
    golden = json.loads((GOLDEN / "v1.json").read_text())
    assert golden == encoded()


def encoded() -> dict[str, Any]:
    return {
        kind: {"key": key.hex(), "value": value.hex(), "expected": plain(READERS[kind](value))}
        for kind, (key, value) in rows().items()
    }
