"""A task that correlates with a million open waits: memory, disk, and how long a restart takes.

    python -m load.waits --waits 1000000
    python -m load.waits --events 200000

The second form compares what the decide plane computes for an event with two flows that wait for
it, re-keyed and completed, to what it computes without. All is in one process over a real RocksDB,
without a broker: what is measured is the task's own part.
Memory is that of the process, on top of what it had before the first wait.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from edo_stream.core.contract import Codec, Contract
from edo_stream.core.correlation.feed import JoinTrigger, ValueOf
from edo_stream.core.correlation.joined import Joined, encode_joined
from edo_stream.core.correlation.pipeline import JoinPipeline
from edo_stream.core.correlation.spec import Correlation, JoinSpec, Named, Target
from edo_stream.core.dedupe import expand_ids
from edo_stream.core.known_ids import IdsBudget
from edo_stream.core.lane import Source
from edo_stream.core.patterns import parse_pattern
from edo_stream.core.pipeline import Pipeline
from edo_stream.core.record import Batch, PlainRecord
from edo_stream.core.routing import Condition, Route, Routes
from edo_stream.core.state import Table
from edo_stream.core.task import InternalTopics, TaskIdentity
from edo_stream.core.trigger import FlowTrigger
from edo_stream.engine.store import RocksDisk
from edo_stream.sources import decoder

_TOPIC: Final = "edo.joins.load"
_BATCH: Final = 2_000
_NOW_MS: Final = 1_700_000_000_000
_FIRST_MS: Final = _NOW_MS - 3_600_000
_DATA: Final = b'{"id": "order", "items": [1, 2, 3], "customer": "somebody", "note": "%d"}'


def _pipeline(disk: RocksDisk, flows: tuple[str, ...] = ("load",)) -> tuple[JoinPipeline, Table]:
    correlations = {
        flow: Correlation(
            flow=flow,
            owner="load",
            kind=Named(2),
            inputs=("order", "payment"),
            target=Target("load.results", 8, "load.results"),
            outcomes="load.outcomes",
            dead_letters="load.dead-letters",
            partitions=8,
        )
        for flow in flows
    }
    internal = InternalTopics("edo.accounts", 8, "edo.gaps", 8, "edo.control.load")
    table = Table(disk)
    spec = JoinSpec(_TOPIC, 1, correlations)
    identity = TaskIdentity("load", "load", 0)
    return JoinPipeline(identity, spec, "load.dead-letters", table, internal), table


def _batch(name: str, first: int, count: int, keys_from: int) -> Batch:
    records = []
    for number in range(count):
        offset, key = first + number, keys_from + number
        joined = Joined(
            "load", name, f"e-{offset}", "/load", f"load.{name}", f"load.{name}/0/{offset}",
            _DATA % key, is_json=True,
        )  # fmt: skip
        value = encode_joined(joined)
        at_ms = _FIRST_MS + key
        records.append(PlainRecord(_TOPIC, 0, offset, at_ms, b"order-%d" % key, value, ()))
    return Batch(_TOPIC, 0, records)


def _memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _step(pipeline: JoinPipeline, table: Table, disk: RocksDisk, batch: Batch) -> int:
    """Decide and write, as a task does after its commit; how many records it would publish."""
    effects = pipeline.step([batch], _NOW_MS, 0)
    disk.write(table.local, batch.records[-1].offset, _NOW_MS)
    table.settle()
    return len(effects.publish)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--waits", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=0)
    given = parser.parse_args()
    if given.events:
        compare(given.events)
    else:
        fill(given.waits)


def compare(events: int) -> None:
    """Time of an event without flows, and with two flows that wait for pairs of them."""
    bare_s = min(_decided(events, Routes())[0] for _ in range(3))
    reading_s, joined = _decided(events, _two_flows())
    joining_s = _correlated(joined)
    whole_s = reading_s + joining_s
    print(f"bare: {1e6 * bare_s / events:.1f} us an event")
    print(f"two flows, re-keyed: {1e6 * reading_s / events:.1f} us to read an event,")
    print(
        f"  {1e6 * joining_s / events:.1f} us to correlate it twice: {bare_s / whole_s:.2f} of bare"
    )


def _two_flows() -> Routes:
    """Inputs by parity: events 2n and 2n+1 are a pair."""
    routes = []
    for flow in ("one", "two"):
        for name, parity in (("order", 0), ("payment", 1)):
            feed = JoinTrigger(
                flow, name, _TOPIC, 1, "letters", 1, "load", ValueOf("/pair"), bytes_max=1 << 20
            )
            trigger = FlowTrigger(flow, _TOPIC, "letters", 1)
            pattern = parse_pattern({"data": {"parity": [parity]}})
            routes.append(Route(trigger, (Condition(pattern),), feed))
    return Routes(routes)


def _decided(events: int, routes: Routes) -> tuple[float, list[PlainRecord]]:
    """Seconds that the decide plane takes, and the records that it writes for correlations."""
    contract = Contract(
        "load.placed", "load", "in", 1, Codec.CLOUDEVENTS, "load.out", 1, "load.letters"
    )
    internal = InternalTopics("edo.accounts", 8, "edo.gaps", 8, "edo.control.in")
    source = Source(contract, decoder(contract), routes if routes.routes else None)
    with tempfile.TemporaryDirectory() as folder:
        disks = [RocksDisk(Path(folder) / name) for name in ("state", "ids")]
        state, ids = tables = (Table(disks[0]), Table(disks[1], expand_ids))
        identity = TaskIdentity("load", "in", 0)
        pipeline = Pipeline(identity, {"load.placed": source}, state, ids, internal, IdsBudget())
        joined: list[PlainRecord] = []
        spent_s = 0.0
        for first in range(0, events, _BATCH):
            records = [_event(first + number) for number in range(_BATCH)]
            began_s = time.perf_counter()
            effects = pipeline.step([Batch("load.placed", 0, records)], _NOW_MS, 0)
            for table, disk in zip(tables, disks, strict=True):
                disk.write(table.local, first, _NOW_MS)
                table.settle()
            spent_s += time.perf_counter() - began_s
            joined += [
                PlainRecord(_TOPIC, 0, 0, one.timestamp_ms, one.key, one.value, ())
                for one in effects.publish
                if one.topic == _TOPIC
            ]
        for disk in disks:
            disk.close()
    return spent_s, joined


def _event(number: int) -> PlainRecord:
    data = b'{"pair": "p-%d", "parity": %d, "note": "%s"}' % (number // 2, number % 2, b"x" * 150)
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"%d" % number),
        ("ce_source", b"/load"),
        ("ce_type", b"load.placed"),
        ("content-type", b"application/json"),
    )
    return PlainRecord("load.placed", 0, number, _NOW_MS, b"k-%d" % (number % 500), data, headers)


def _correlated(joined: list[PlainRecord]) -> float:
    """Seconds that a task takes to correlate the records."""
    with tempfile.TemporaryDirectory() as folder:
        disk = RocksDisk(Path(folder) / "state")
        pipeline, table = _pipeline(disk, ("one", "two"))
        spent_s, fired = 0.0, 0
        for first in range(0, len(joined), _BATCH):
            part = [
                replace(record, offset=first + number)
                for number, record in enumerate(joined[first : first + _BATCH])
            ]
            began_s = time.perf_counter()
            effects = pipeline.step([Batch(_TOPIC, 0, part)], _NOW_MS, 0)
            disk.write(table.local, first, _NOW_MS)
            table.settle()
            spent_s += time.perf_counter() - began_s
            fired += sum(one.topic == "load.results" for one in effects.publish)
        disk.close()
    assert fired == len(joined) // 2, fired
    return spent_s


def fill(waits: int) -> None:
    """Open so many waits, restart, and complete them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        disk = RocksDisk(path)
        pipeline, table = _pipeline(disk)
        before_bytes, began_s = _memory_bytes(), time.perf_counter()
        for first in range(0, waits, _BATCH):
            _step(pipeline, table, disk, _batch("order", first, _BATCH, first))
        spent_s = time.perf_counter() - began_s
        grown_mib = (_memory_bytes() - before_bytes) / (1 << 20)
        file_mib = disk.usage()[0] / (1 << 20)
        print(f"{waits:,} waits opened: {waits / spent_s:,.0f}/s, {grown_mib:.0f} MiB more memory")
        print(f"on disk: {file_mib:.0f} MiB")
        disk.close()
        began_s = time.perf_counter()
        disk = RocksDisk(path)
        pipeline, table = _pipeline(disk)
        counters, since_ms = pipeline.open_waits()["load"]
        assert (counters.open, since_ms) == (waits, _FIRST_MS), counters
        _step(pipeline, table, disk, _batch("payment", waits, _BATCH, 0))
        print(f"restart with its disk, to the first results: {time.perf_counter() - began_s:.2f} s")
        began_s = time.perf_counter()
        for first in range(waits + _BATCH, 2 * waits, _BATCH):
            _step(pipeline, table, disk, _batch("payment", first, _BATCH, first - waits))
        spent_s = time.perf_counter() - began_s
        assert not pipeline.open_waits()["load"][0].open
        print(f"completed: {(waits - _BATCH) / spent_s:,.0f}/s")
        disk.close()


if __name__ == "__main__":
    main()
