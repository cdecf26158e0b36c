"""Records that the compiled half writes as they are sent: all of them, in order, at every place."""

from typing import Any

import pytest

from edo_stream.core.effects import Effects
from edo_stream.core.record import Batch
from edo_stream.core.routing import Route, Routes
from edo_stream.core.trigger import FlowTrigger
from tests.core.bench import IDENTITY, NOW_MS, TOPIC, contract
from tests.core.produced import produced
from tests.core.test_native import batch
from tests.core.test_native_ways import Half

native = pytest.importorskip("edo_stream.core._native", reason="no C compiler when installed")

#: Keys whose flow has a command topic of so many partitions.
MANY = 400


def fetched(first: int, rows: list[tuple[bytes, bytes, bytes]]) -> list[Any]:
    """Records of keys, types and data, from an offset on."""
    wanted = [
        (0, key, data, [
            ("ce_specversion", b"1.0"),
            ("ce_id", b"%d" % (first + at)),
            ("ce_source", b"/shop"),
            ("ce_type", kind),
            ("content-type", b"application/json"),
        ])
        for at, (key, kind, data) in enumerate(rows)
    ]  # fmt: skip
    data = batch(wanted)[61:]
    return native.read_records(  # type: ignore[no-any-return]
        TOPIC, IDENTITY.partition, data, len(rows), first, NOW_MS - 1_000, -1, 0
    )


def half(partitions: int, as_sent: bool = True, key: str | None = None) -> Half:
    routes = Routes([Route(FlowTrigger("f", "c", "d", partitions, key))])
    made = Half(contract(dedupe=None), True, routes, as_sent)
    made.start()
    return made


def step(task: Half, records: list[Any]) -> Effects:
    effects = task.pipeline.step([Batch(TOPIC, IDENTITY.partition, records)], NOW_MS, NOW_MS)
    task.commit()
    return effects


def test_plain_events_lead_to_runs_of_records_and_to_nothing_else() -> None:
    task = half(1)
    effects = step(task, fetched(100, [(b"k", b"placed", b"{}")] * 5))
    assert [(contract().emit, 5, 5), ("c", 0, 5)] == [
        (one.topic, one.partition, len(one)) for one in effects.wire
    ]
    assert 1 == len(effects.publish), "of the accounts"


def test_what_is_published_otherwise_meanwhile_keeps_its_place() -> None:
    kinds = [b"placed", b"caf\xc3\xa9", b"placed", b"caf\xc3\xa9", b"placed"]
    rows = [(b"k", kind, b'{"n":%d}' % at) for at, kind in enumerate(kinds)]
    task, other = half(1), half(1, as_sent=False)
    for first in (100, 105, 110):
        records = fetched(first, rows)
        effects, wanted = step(task, records), step(other, records)
        assert produced(effects, by_place=True) == produced(wanted, by_place=True)
    # Once it is known where plain events lead to, all of them go there in one run.
    assert [5, 5] == [len(one) for one in effects.wire]


def test_a_command_that_python_makes_keeps_its_place_among_those_of_other_events() -> None:
    # A key is read from JSON as it stands, or else in Python.
    rows = [
        (b"k", b"placed", b'{"id":"%b","n":%d}' % (b"\\u0061" if at % 2 else b"a", at))
        for at in range(6)
    ]
    task, other = half(1, key="/id"), half(1, as_sent=False, key="/id")
    effects, wanted = step(task, fetched(100, rows)), step(other, fetched(100, rows))
    assert produced(effects, by_place=True) == produced(wanted, by_place=True)
    # Behind the last there is none that it could be before.
    assert ([6, 5], 1 + 1) == ([len(one) for one in effects.wire], len(effects.publish))


def test_there_may_be_more_places_than_are_kept_apart() -> None:
    rows = [(b"k-%d" % at, b"placed", b"{}") for at in range(1_000)]
    task, other = half(MANY), half(MANY, as_sent=False)
    for first in (100, 1_100):
        records = fetched(first, rows)
        effects, wanted = step(task, records), step(other, records)
        assert produced(effects, by_place=True) == produced(wanted, by_place=True)
        assert 100 < len(effects.wire) < MANY


def test_a_run_is_no_longer_than_a_batch_takes() -> None:
    rows = [(b"k", b"placed", b'{"n":"%b"}' % (b"%d" % at * 100_000)) for at in range(10)]
    task = half(1)
    effects = step(task, fetched(100, rows))
    for topic in (contract().emit, "c"):
        runs = [one for one in effects.wire if one.topic == topic]
        assert [8, 2] == [len(one) for one in runs]
        assert all(one.size_bytes <= 890_000 for one in runs)
    assert produced(effects, by_place=True) == produced(
        step(half(1, as_sent=False), fetched(100, rows)), by_place=True
    )


def test_a_step_that_is_given_up_leaves_nothing_to_the_next() -> None:
    task = half(1)
    records = fetched(100, [(b"k", b"placed", b"{}")] * 3)
    task.pipeline.step([Batch(TOPIC, IDENTITY.partition, records)], NOW_MS, NOW_MS)
    task.pipeline.discard()
    steps = task.pipeline.steps([Batch(TOPIC, IDENTITY.partition, records)], NOW_MS, NOW_MS)
    next(steps)
    task.pipeline.discard()
    assert [3, 3] == [len(one) for one in step(task, records).wire]
