"""Batches of what is bytes already: records written by the compiled half, and rows."""

import pytest

from edo_stream.core.effects import Publish
from edo_stream.engine.batches import AppendedBatch, WrittenBatch
from tests.core.test_wire_output import fetched, half, step

pytest.importorskip("edo_stream.core._native", reason="no C compiler when installed")


def test_a_batch_of_records_that_are_written_already_is_the_same_to_the_byte() -> None:
    rows = [(b"k-%d" % (at % 3), b"placed", b'{"n":%d}' % at) for at in range(50)]
    runs = step(half(4), fetched(100, rows)).wire
    assert len(runs) > 1
    for run in runs:
        filled, adopted = WrittenBatch(900_000, 4), WrittenBatch(900_000, 4)
        assert len(run) == filled.fill(run.records(), 0)
        assert adopted.adopt(run)
        assert (0, len(filled._writer.view())) == (len(run), len(adopted._writer.view()))
        assert bytes(filled._build()) == bytes(adopted._build())


def test_what_is_larger_than_the_topic_takes_is_not_adopted() -> None:
    run = step(half(1), fetched(100, [(b"k", b"placed", b"{}")] * 5)).wire[0]
    assert not WrittenBatch(900_000, 0).adopt(run, 300)
    alone = step(half(1), fetched(100, [(b"k", b"placed", b"{}")])).wire[0]
    assert WrittenBatch(900_000, 0).adopt(alone, 20)


def test_rows_fill_a_batch_as_records_do() -> None:
    rows = [(b"row-%d" % at, b"v" * at if at % 3 else None) for at in range(40)]
    items = [Publish("log", 0, key, value, (), 1_000) for key, value in rows]
    for bytes_max in (None, 400):
        filled, by_rows = WrittenBatch(900_000, 0), WrittenBatch(900_000, 0)
        taken = filled.fill(items, 5, bytes_max)
        assert taken == by_rows.fill_rows(rows, 5, 1_000, bytes_max)
        assert (taken < 40) == by_rows.closed()
        assert bytes(filled._build()) == bytes(by_rows._build())
        one, other = [AppendedBatch(900_000, 0, is_transactional=True) for _ in range(2)]
        assert one.fill(items, 5, bytes_max) == other.fill_rows(rows, 5, 1_000, bytes_max)
        assert bytes(one._build()) == bytes(other._build())
