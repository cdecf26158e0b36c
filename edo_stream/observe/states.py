"""One key's state, read from a task's committed rows: a wait of a flow, or a saga's instance.

A read costs about the same whatever the state's size: one row, and of a wait with many events a
page of them.
"""

from itertools import islice
from typing import Any, Final

from edo_stream.core.correlation.rows import WAIT, decode_event, decode_wait, scan_events
from edo_stream.core.correlation.spec import Correlation
from edo_stream.core.partitioner import partition_of
from edo_stream.core.saga.instance import decode_instance
from edo_stream.core.saga.pipeline import INSTANCE
from edo_stream.core.state import Table
from edo_stream.observe.sagas import as_document as saga_document
from edo_stream.observe.sagas import whole_document
from edo_stream.observe.waits import as_document as wait_document
from edo_stream.observe.waits import heads_of, held_of, wait_of

_PAYLOAD_BYTES_MAX: Final = 1 << 20
"""Of the events of a page: it ends with the one that goes beyond."""
_MISSING_MAX: Final = 1_000


def read_wait(  # noqa: PLR0913 - what it is, where it is, and how much of it
    correlation: Correlation,
    group: tuple[str, int],
    state: Table,
    key: bytes,
    limit: int,
    after: bytes,
) -> dict[str, Any] | None:
    """A key of a flow that waits, with a page of its events; ``None`` where it is not known.

    ``group`` is the name of its group, and how many partitions it has.
    ``next`` is where the next page begins, null on the last. What is missing follows from all of
    the events: it is null where they are not all on the page.
    """
    name = correlation.flow.encode() + b"\0" + key
    raw = state.get(WAIT + name)
    if raw is None:
        return None
    row = decode_wait(raw)
    held = [] if after else heads_of(row)
    size_bytes, last, following = 0, b"", b""
    for number, (place, value) in enumerate(islice(scan_events(state, name, after), limit + 1)):
        if number == limit or size_bytes > _PAYLOAD_BYTES_MAX:
            following = last
            break
        event = decode_event(value)
        held.append(held_of(event.at_ms, event.payload))
        size_bytes, last = size_bytes + len(value), place
    told = wait_document(
        wait_of((group[0], partition_of(key, group[1]), key), correlation, row, held)
    )
    missing = None if after or following else told["missing"]
    told["isMissingCut"] = missing is not None and len(missing) > _MISSING_MAX
    told["missing"] = missing if missing is None else missing[:_MISSING_MAX]
    return {**told, "next": following.hex() or None}


def read_instance(  # noqa: PLR0913 - as a wait is read
    saga: str, shows_data: bool, state: Table, key: bytes, limit: int, after: bytes
) -> dict[str, Any] | None:
    """An instance of a saga, in one page; with the data of its event and results, or without."""
    del limit, after
    raw = state.get(INSTANCE + saga.encode() + b"\0" + key)
    if raw is None:
        return None
    row = decode_instance(raw)
    told = {**saga_document(row), **whole_document(row), "changes": row.changes}
    if not shows_data:
        del told["event"]
        for step in told["steps"].values():
            del step["result"]
    return told
