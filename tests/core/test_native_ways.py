"""Batches through a whole task: by the compiled way as far as it goes, and by Python alone."""

from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edo_stream.core.contract import DedupePolicy, KeyOrder, SequenceOrder
from edo_stream.core.dedupe import expand_ids
from edo_stream.core.known_ids import IdsBudget
from edo_stream.core.lane import Source
from edo_stream.core.pipeline import Pipeline
from edo_stream.core.record import Batch, StoredRecord
from edo_stream.core.routing import Routes
from edo_stream.core.state import Table
from edo_stream.sources.cloudevents import decoder
from tests.core.bench import IDENTITY, INTERNAL, NOW_MS, TOPIC, contract
from tests.core.memory import Memory
from tests.core.produced import produced
from tests.core.test_native import batch

native = pytest.importorskip("edo_stream.core._native", reason="no C compiler when installed")

_TTL_MS: Final = 5_000
#: Few ids and numbers, so that they come again; times that let some of them expire.
ROWS: Final = st.lists(
    st.tuples(
        st.sampled_from([b"k", b"m"]),
        st.integers(1, 6),
        st.integers(0, 9),
        st.sampled_from([0, 1, 3_000, 9_000]),
        st.sampled_from([None, None, None, b"1", b"2"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


class Half:
    """A task of one topic over tables in memory; ``as_sent``: see :class:`WireOutput`."""

    def __init__(
        self, rules: Any, is_compiled: bool, routes: Routes | None = None, as_sent: bool = False
    ) -> None:
        self.stores = (Memory(), Memory())
        self.tables = (Table(self.stores[0]), Table(self.stores[1], expand_ids))
        source = Source(rules, decoder(rules), routes)
        self.pipeline = Pipeline(IDENTITY, {TOPIC: source}, *self.tables, INTERNAL, IdsBudget())
        self.is_compiled = is_compiled
        self.as_sent = as_sent
        if as_sent:
            self.pipeline.write_as_sent()
        if not is_compiled:
            for lane in self.pipeline._lanes.values():
                lane.plain = None

    def start(self) -> None:
        self.pipeline.start(TOPIC, 100, NOW_MS)
        self.commit()

    def step(self, records: list[Any]) -> list[Any]:
        """What a step has done, its tables' rows included."""
        done = self.decide(records, NOW_MS)
        self.commit()
        return [*done, [store.rows for store in self.stores]]

    def decide(self, records: list[Any], now_ms: int) -> list[Any]:
        """What a step wants done; with no records it is about the time alone."""
        if not self.is_compiled:
            records = [
                StoredRecord(
                    one.topic, one.partition, one.offset, one.timestamp, one.key, one.value,
                    tuple(one.headers),
                )
                for one in records
            ]  # fmt: skip
        batches = [Batch(TOPIC, IDENTITY.partition, records)] if records else []
        effects = self.pipeline.step(batches, now_ms, now_ms)
        published = produced(effects, self.as_sent)
        changes = [list(table.changelog.items()) for table in self.tables]
        counts = (effects.counts, effects.settled, effects.times_ms)
        return [published, effects.accounts, counts, changes]

    def commit(self) -> None:
        for table, store in zip(self.tables, self.stores, strict=True):
            store.write(table.local)
            table.settle()


@settings(deadline=None, max_examples=400)
@given(
    st.lists(ROWS, min_size=1, max_size=4),
    st.sampled_from([KeyOrder(), SequenceOrder(start=1)]),
    st.sampled_from([None, DedupePolicy(ttl_ms=_TTL_MS)]),
    st.booleans(),
)
def test_both_halves_bring_records_to_the_same_ends(
    steps: list[Any], ordering: Any, dedupe: Any, as_sent: bool
) -> None:
    rules = contract(ordering=ordering, dedupe=dedupe)
    compiled, in_python = [Half(rules, which, None, as_sent) for which in (True, False)]
    compiled.start()
    in_python.start()
    offset = at_ms = 0
    for rows in steps:
        wanted = []
        for key, number, id_, later_ms, redrive, is_plain in rows:
            at_ms += later_ms
            headers = [
                ("ce_specversion", b"1.0"),
                ("ce_id", b"%d" % id_),
                ("ce_source", b"/shop"),
                ("ce_type", b"placed" if is_plain else b"caf\xc3\xa9"),
                ("ce_sequence", b"%d" % number),
            ]
            if redrive is not None:
                headers.append(("edo-redrive", redrive))
            wanted.append((at_ms, key, b"{}", headers))
        data = batch(wanted)[61:]
        first_ms = NOW_MS - 60 * 60 * 1_000 + wanted[0][0]
        records = native.read_records(
            TOPIC, IDENTITY.partition, data, len(wanted), 100 + offset, first_ms, -1, 0
        )
        offset += len(wanted)
        assert compiled.step(records) == in_python.step(records)
