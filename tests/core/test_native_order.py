"""Events out of their order: by the compiled way as far as it goes, and by Python alone."""

from dataclasses import dataclass
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edo_stream.core import pipeline as deciding
from edo_stream.core.accounts import Fate, Run
from edo_stream.core.contract import DedupePolicy, OnFull, OnLate, OnTimeout, SequenceOrder
from edo_stream.core.idle import SEQUENCE
from edo_stream.core.pipeline import Pipeline
from edo_stream.core.routing import Route, Routes
from edo_stream.core.task import TASK_KEY
from edo_stream.core.trigger import FlowTrigger
from tests.core.bench import IDENTITY, NOW_MS, TOPIC, contract
from tests.core.limits import Limits
from tests.core.test_native import batch
from tests.core.test_native_ways import Half

native = pytest.importorskip("edo_stream.core._native", reason="no C compiler when installed")

_TIMEOUT_MS: Final = 5_000
_HOUR_MS: Final = 60 * 60 * 1_000
#: What becomes of an event on its way: most come once, and whole.
_KINDS: Final = (
    *["whole"] * 20, "lost", "double", "other", "bad", "large", "huge", "ahead", "unnumbered"
)  # fmt: skip
#: Data that may be held, but not go on where results are small; data that may not even be held.
_DATA: Final = {
    "bad": b"{",
    "large": b'{"a": "%b"}' % (b"x" * 40_000),
    "huge": b'{"a": "%b"}' % (b"x" * 64_000),
}


@dataclass(frozen=True)
class Came:
    """An event as it comes."""

    key: bytes
    number: int
    kind: str
    again: int = 0


@st.composite
def histories(draw: st.DrawFn) -> list[list[Came]]:
    """Events of a few keys by steps, some of them up to so many places late."""
    late = draw(st.sampled_from([2, 6, 12]))
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from([b"k", b"l", b"m"]),
                st.integers(0, late),
                st.sampled_from(_KINDS),
            ),
            min_size=12,
            max_size=60,
        )
    )
    numbers = dict.fromkeys((b"k", b"l", b"m"), 0)
    came: list[tuple[int, Came]] = []
    for place, (key, places, kind) in enumerate(rows):
        numbers[key] += 1
        if kind != "lost":
            came.append((place + places, Came(key, numbers[key], kind)))
        if kind in ("double", "other"):
            came.append((place + draw(st.integers(0, 12)), Came(key, numbers[key], kind, again=1)))
    came.sort(key=lambda one: one[0])
    events = [one for _, one in came]
    cuts = sorted(draw(st.lists(st.integers(0, len(events)), max_size=3)))
    spans = zip([0, *cuts], [*cuts, len(events)], strict=True)
    return [events[start:end] for start, end in spans if start < end]


def fetched(events: list[Came], first: int) -> list[Any]:
    """Records of events, from an offset on."""
    rows = []
    for one in events:
        is_other = one.kind == "other" and one.again
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_id", b"%b-%d-%d" % (one.key, one.number, is_other)),
            ("ce_source", b"/shop"),
            ("content-type", b"application/json"),
            ("ce_type", b"placed" if one.number % 4 else b"caf\xc3\xa9"),
        ]
        if one.kind != "unnumbered":
            headers.append(("ce_sequence", b"%d" % one.number))
        later_ms = 2 * _HOUR_MS if one.kind == "ahead" else one.number
        rows.append((later_ms, one.key, _DATA.get(one.kind, b"{}"), headers))
    data = batch(rows)[61:]
    first_ms = NOW_MS - _HOUR_MS + rows[0][0]
    return native.read_records(  # type: ignore[no-any-return]
        TOPIC, IDENTITY.partition, data, len(rows), first, first_ms, -1, 0
    )


def held(half: Half) -> tuple[Any, ...]:
    """What a task says of what waits."""
    return half.pipeline.held(), half.pipeline.next_due_ms()


def next_offset(half: Half) -> int:
    return half.pipeline._step.row.sources[TOPIC].next_offset


def compare(halves: tuple[Half, Half], records: list[Any], now_ms: int, is_aborted: bool) -> None:
    """Step until nothing is left of the records; the first step is done twice if it is aborted."""
    while True:
        done = [half.decide(records, now_ms) for half in halves]
        assert done[0] == done[1]
        if is_aborted:
            is_aborted = False
            for half in halves:
                half.pipeline.discard()
            continue
        for half in halves:
            half.commit()
        assert halves[0].stores[0].rows == halves[1].stores[0].rows
        assert halves[0].stores[1].rows == halves[1].stores[1].rows
        assert held(halves[0]) == held(halves[1])
        assert next_offset(halves[0]) == next_offset(halves[1])
        records = [one for one in records if one.offset >= next_offset(halves[0])]
        if not records:
            return


def _in_python(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Offsets of what has left the compiled way from now on."""
    offsets: list[int] = []
    judge = Pipeline._judge

    def noted(self: Pipeline, lane: Any, record: Any, *rest: Any) -> None:
        offsets.append(record.offset)
        judge(self, lane, record, *rest)

    monkeypatch.setattr(Pipeline, "_judge", noted)
    return offsets


def _came(*numbers: int) -> list[Came]:
    return [Came(b"k", number, "whole") for number in numbers]


def test_what_waits_for_one_of_its_own_step_needs_no_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    half = Half(contract(ordering=SequenceOrder(start=1)), True)
    half.start()
    half.step(fetched(_came(1), 100))
    in_python = _in_python(monkeypatch)
    numbers = (2, 5, 4, 3, 6, 9, 7, 8, 11)
    published, *_ = half.step(fetched(_came(*numbers), 101))

    # The first of a step sees that nothing of its expiry is there yet.
    assert [101] == in_python
    positions = [dict(headers).get("ce_edoposition") for *_, headers, _ in published]
    offsets = [101, 104, 103, 102, 105, 107, 108, 106]
    assert positions[:-1] == [b"%b/5/%d" % (TOPIC.encode(), each) for each in offsets]
    assert held(half) == ({TOPIC: (1, NOW_MS)}, NOW_MS + 30_000)
    _, [account], *_ = half.step(fetched(_came(10), 110))
    assert (Run(109, 1, Fate.EMITTED.value),) == account.settled
    assert held(half) == ({TOPIC: (0, None)}, None)
    # What an earlier step holds is a matter of Python's.
    assert [101, 110] == in_python


def test_a_gap_that_is_closed_in_its_step_leaves_no_trace() -> None:
    half = Half(contract(ordering=SequenceOrder(start=1), dedupe=None), True)
    half.start()
    *_, [changes, _] = half.decide(fetched(_came(1, 4, 3, 2, 6, 5), 100), NOW_MS)
    half.commit()
    assert [SEQUENCE + TOPIC.encode() + b"\0k", TASK_KEY] == [name for name, _ in changes]
    assert held(half) == ({TOPIC: (0, None)}, None)


@pytest.mark.parametrize(
    ("policy", "numbers", "left_at"),
    [
        (SequenceOrder(start=1), (3, 2, 5, 4), []),
        (SequenceOrder(start=1), (3, 3, 4), [102]),
        (SequenceOrder(start=1), (2, 2, 4), [102]),
        (SequenceOrder(start=1, held_per_key_max=2), (3, 5, 7), [103]),
        (SequenceOrder(start=1, held_per_partition_max=1), (3, 5), [102]),
    ],
)
def test_what_is_not_plain_is_left_to_python(
    policy: SequenceOrder, numbers: tuple[int, ...], left_at: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    half = Half(contract(ordering=policy, dedupe=None), True)
    half.start()
    in_python = _in_python(monkeypatch)
    half.step(fetched([Came(b"k", 1, "whole"), *_came(*numbers)], 100))
    assert in_python == [100, *left_at]


ORDERS: Final = st.builds(
    SequenceOrder,
    start=st.sampled_from([None, 1]),
    gap_timeout_ms=st.just(_TIMEOUT_MS),
    on_timeout=st.sampled_from([OnTimeout.SKIP, *OnTimeout]),
    held_per_key_max=st.sampled_from([1_000, 1_000, 3]),
    held_per_partition_max=st.sampled_from([1_000, 1_000, 4]),
    on_full=st.sampled_from(list(OnFull)),
    on_late=st.sampled_from(list(OnLate)),
    idle_ttl_ms=st.sampled_from([30 * 24 * _HOUR_MS, _HOUR_MS // 2]),
)
FLOWS: Final = Routes([Route(FlowTrigger("f", "c", "d", 8))])


@settings(max_examples=500)
@given(
    histories(),
    ORDERS,
    st.sampled_from([None, DedupePolicy()]),
    st.sampled_from([None, FLOWS]),
    st.sampled_from([None, 30_000]),
    st.lists(st.tuples(st.sampled_from([0, 100, _TIMEOUT_MS]), st.booleans()), min_size=4),
    st.sampled_from([Limits(), Limits(), Limits(records=5), Limits(size_bytes=60)]),
    st.sampled_from([500, 3]),
    st.booleans(),
)
def test_events_out_of_order_come_to_the_same_ends(
    history: list[list[Came]],
    order: SequenceOrder,
    dedupe: DedupePolicy | None,
    flows: Routes | None,
    result_bytes_max: int | None,
    turns: list[tuple[int, bool]],
    limits: Limits,
    part: int,
    as_sent: bool,
) -> None:
    sizes = {"record_bytes_max": 1_000, "emit_bytes_max": result_bytes_max}
    rules = contract(ordering=order, dedupe=dedupe, **sizes)
    halves = Half(rules, True, flows, as_sent), Half(rules, False, flows, as_sent)
    for half in halves:
        half.start()
    offset, now_ms = 100, NOW_MS
    with limits, pytest.MonkeyPatch.context() as patch:
        patch.setattr(deciding, "_PART_RECORDS", part)
        for events, (later_ms, is_aborted) in zip(history, turns, strict=False):
            now_ms += later_ms
            compare(halves, fetched(events, offset), now_ms, is_aborted)
            offset += len(events)
        for _ in range(2):
            now_ms += _TIMEOUT_MS
            compare(halves, [], now_ms, False)
