"""One key's state as a worker shows it: whole, or a page of many events."""

from typing import Any

import msgspec

from edo_stream.core.correlation.joined import Joined, encode_joined
from edo_stream.core.correlation.rows import (
    EVENT,
    WAIT,
    Head,
    HeldEvent,
    Phase,
    WaitRow,
    encode_wait,
    events_of,
)
from edo_stream.core.correlation.spec import Correlation, Kind, Members, Named, Target
from edo_stream.core.partitioner import partition_of
from edo_stream.core.saga.instance import InstanceRow, StepRow, StepStatus, encode_instance
from edo_stream.core.saga.pipeline import INSTANCE
from edo_stream.core.state import Table
from edo_stream.observe.states import read_instance, read_wait
from tests.core.memory import Memory

GROUP = ("waiting", 4)


def correlation(kind: Kind) -> Correlation:
    target = Target("t.a.b", 1, "t")
    return Correlation("pair", "tests", kind, ("a", "b"), target, "o", "d", 1)


def payload(event_id: str, member: str | None = None, size: int = 0) -> bytes:
    data = b"x" * size
    return encode_joined(Joined("pair", "a", event_id, "/s", "t", "t/0/1", data, member=member))


def state_of(row: WaitRow, events: list[tuple[bytes, bytes]]) -> Table:
    memory, name = Memory(), b"pair\0k"
    memory.rows[WAIT + name] = encode_wait(row)
    for place, value in events:
        held = HeldEvent(7, 1, len(value), value)
        memory.rows[events_of(name) + place] = msgspec.msgpack.encode(held)
    # Of another key, which begins alike.
    other = msgspec.msgpack.encode(HeldEvent(7, 1, 1, payload("other")))
    memory.rows[events_of(b"pair\0k2") + b"p"] = other
    memory.rows[EVENT + b"\xff" * 9] = other
    return Table(memory)


def pages(kind: Kind, state: Table, limit: int) -> list[dict[str, Any]]:
    found, after = [], b""
    while True:
        page = read_wait(correlation(kind), GROUP, state, b"k", limit, after)
        assert page is not None
        found.append(page)
        if page["next"] is None:
            return found
        after = bytes.fromhex(page["next"])


def ids(page: dict[str, Any]) -> list[str]:
    return [one["id"] for one in page["inputs"]]


def test_a_wait_of_few_events_is_one_page_that_says_what_is_missing() -> None:
    row = WaitRow(1, 2, Phase.OPEN, opened_ms=5, until_ms=9, held=1)
    row.heads.append(Head("a", 5, 1, 1, payload("e-1")))
    (page,) = pages(Named(2), state_of(row, []), 100)
    assert (["e-1"], ["b"], "open", None) == (
        ids(page),
        page["missing"],
        page["state"],
        page["next"],
    )
    assert ("waiting", partition_of(b"k", 4)) == (page["group"], page["partition"])
    assert None is read_wait(correlation(Named(2)), GROUP, state_of(row, []), b"no", 100, b"")


def test_a_wait_of_many_events_comes_in_pages_each_event_once() -> None:
    kind = Members(members=tuple(f"m{n}" for n in range(12)))
    row = WaitRow(1, 2, Phase.OPEN, counted=10, held=10)
    events = [(b"%04d" % n, payload(f"e-{n}", f"m{n}")) for n in range(10)]
    state = state_of(row, events)
    found = pages(kind, state, 3)
    assert [3, 3, 3, 1] == [len(ids(page)) for page in found]
    assert [f"e-{n}" for n in range(10)] == [one for page in found for one in ids(page)]
    assert [None] * 4 == [page["missing"] for page in found], "it follows from all of them"
    assert {(10, 12)} == {(page["count"], page["expected"]) for page in found}
    (whole,) = pages(kind, state, 10)
    assert ["m10", "m11"] == whole["missing"]


def test_a_page_has_a_bound_in_bytes() -> None:
    events = [(b"%d" % n, payload(f"e-{n}", size=600_000)) for n in range(5)]
    found = pages(Members(members=("m",)), state_of(WaitRow(1, 2, Phase.OPEN), events), 100)
    assert [2, 2, 1] == [len(ids(page)) for page in found]


def test_what_is_missing_has_a_bound() -> None:
    row = WaitRow(1, 2, Phase.OPEN, members=tuple(f"m{n}" for n in range(1_500)))
    (page,) = pages(Members(), state_of(row, []), 100)
    assert (1_000, True, 1_500) == (len(page["missing"]), page["isMissingCut"], page["expected"])


def test_an_instance_shows_its_data_only_where_it_is_to() -> None:
    steps = {"pay": StepRow(StepStatus.DONE, 1, "c", result=b'{"paid": 7}', was_done=True)}
    row = InstanceRow("ship", 1, "i", b"k", 5, event=b'{"id": "k"}', steps=steps)
    memory = Memory()
    memory.rows[INSTANCE + b"ship\0k"] = encode_instance(row)
    shown = read_instance("ship", True, Table(memory), b"k", 1, b"")
    hidden = read_instance("ship", False, Table(memory), b"k", 1, b"")
    assert shown is not None
    assert hidden is not None
    assert ({"id": "k"}, {"paid": 7}) == (shown["event"], shown["steps"]["pay"]["result"])
    assert "done" == hidden["steps"]["pay"]["status"]
    assert b"paid" not in msgspec.json.encode(hidden).replace(b'"pay"', b"")
    assert "event" not in hidden
    assert None is read_instance("ship", True, Table(memory), b"no", 1, b"")
