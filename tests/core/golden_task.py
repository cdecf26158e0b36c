"""A task in two halves: what the first leaves behind is kept as a golden file, per format.

``python -m tests.core.golden_task`` prints what this version leaves: the file of a new format.
The files of earlier formats stay as they are, and the second half goes on from each of them.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

from edo_stream.core.contract import DedupePolicy, MonotonicOrder, OnTimeout, SequenceOrder
from edo_stream.core.dedupe import spread
from edo_stream.core.effects import Publish
from edo_stream.core.state import FORMAT
from tests.core.bench import INTERNAL, NOW_MS, TOPIC, Bench, contract, numbered, operation, record

PAGES = "crm.page.changed"
_WAIT_MS = 5_000
_LATER_MS = NOW_MS + 2_000

Rows = Sequence[tuple[bytes, bytes | None]]


def bench() -> Bench:
    """A task with every kind of row: numbers, positions, ids, events held and a timer."""
    order = SequenceOrder(start=1, gap_timeout_ms=_WAIT_MS, on_timeout=OnTimeout.SKIP)
    return Bench(
        [
            contract(order, DedupePolicy(ttl_ms=600_000)),
            contract(MonotonicOrder(), DedupePolicy(ttl_ms=60_000), topic=PAGES),
        ]
    )


def first_half(task: Bench) -> None:
    """Fill the state; nothing in here changes once its golden file is written."""
    for topic in (TOPIC, PAGES):
        task.commit(task.pipeline.start(topic, 0, NOW_MS))
    task.feed(
        numbered(0, 1),
        numbered(1, 4, headers=[("trace", b"1"), ("null", None)]),
        numbered(2, 3, bad="broken"),
        numbered(3, 1, b"\xff"),
        numbered(0, 2**70, b"page", topic=PAGES),
        numbered(1, -5, b"\x00", topic=PAGES),
    )
    task.feed(numbered(4, 9, b"far"), operation(0, op="gap.skip", topic=TOPIC, key="far", to=5))
    task.feed(numbered(5, 7, b"far", timestamp=_LATER_MS), now_ms=_LATER_MS)


def second_half(task: Bench) -> list[tuple[Any, ...]]:
    """Meet every row again; returns what comes out."""
    task.published.clear()
    later_ms = _LATER_MS + 1_000
    task.feed(
        record(6, id="id-0", n=99),
        numbered(7, 2),
        numbered(8, 4, b"far"),
        numbered(2, 2**70, b"page", topic=PAGES),
        numbered(3, -4, b"\x00", topic=PAGES),
        now_ms=later_ms,
    )
    task.tick(later_ms + 60_000)
    return task.outputs()


def written() -> dict[str, Any]:
    """What this version leaves behind after the first half, and makes of it in the second."""
    task = bench()
    first_half(task)
    left = {
        "format": FORMAT,
        "state": _hexed(task.state_log.records),
        "ids": _hexed(task.ids_log.records),
        "state rows": _hexed(sorted(task.state_rows.rows.items())),
        "ids rows": _hexed(sorted(spread(task.ids_rows.rows).items())),
        "accounts": [
            _text(publish) for publish in task.published if publish.topic == INTERNAL.accounts
        ],
    }
    return {**left, "then": json.loads(json.dumps(second_half(task)))}


def _hexed(rows: Rows) -> list[list[str | None]]:
    return [[key.hex(), None if value is None else value.hex()] for key, value in rows]


def _text(publish: Publish) -> list[str]:
    return [(publish.key or b"").decode(), (publish.value or b"").decode()]


def unhexed(rows: Sequence[tuple[str, str | None]]) -> list[tuple[bytes, bytes | None]]:
    """Rows of a golden file."""
    return [
        (bytes.fromhex(key), None if value is None else bytes.fromhex(value)) for key, value in rows
    ]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(written(), indent=1) + "\n")
