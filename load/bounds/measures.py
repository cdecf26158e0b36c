"""The measurements: each makes a place, lets a worker do its work, and gives figures with bars."""

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Final

import msgspec
import psutil

from edo_stream.core.accounts import Account, Fate
from edo_stream.core.dedupe import DISK_FORMAT, OLDEST_DISK_FORMAT
from edo_stream.core.state import Table
from edo_stream.core.task import load_task
from edo_stream.engine.admin import Wanted
from edo_stream.engine.store import RocksDisk
from edo_stream.local.kafka import LocalKafka
from edo_stream.registry.plan import ACCOUNTS, GAPS
from load.bench.machine import peak_mb
from load.bench.records import profile_of, records_of
from load.bench.topics import sizes_on_disk
from load.bounds.figures import Bound, Scale
from load.bounds.place import PARTITIONS, BoundError, Place
from load.bounds.restart import measure_restart
from load.bounds.retries import measure_retries
from load.fleet import LocalWorker
from load.plan import Kind, Planned
from load.read import records

_SEQUENCE: Final = "ordering: {policy: sequence}"
_KEY: Final = "ordering: {policy: key}"
_ID_CHARS: Final = 40
_IDLE_PARTITIONS: Final = 64
_SETTLE_S: Final = 10.0
_TTL_S: Final = 30
_GAP_MS: Final = 1_000
_SERVICE: Final = "bounds"


def measure_burst(root: Path, kafka: LocalKafka, scale: Scale) -> list[Bound]:
    """Memory of a worker that meets a burst: what it buffers, and what it remembers of it."""
    place = Place(root, kafka, "burst", _SEQUENCE, PARTITIONS)
    place.create(_SERVICE)
    with place.worker(_SERVICE) as worker:
        idle_mb = _peak_mb(worker)
        report = place.send(records_of(profile_of(scale.burst)))
        place.wait_until_read(_SERVICE)
        peak = _peak_mb(worker)
    detail = f"{report.sent:,} records; VmHWM {idle_mb:.0f} MB idle, {peak:.0f} MB after"
    return [Bound("memory of a burst, over idle", peak - idle_mb, 300, "MB", detail)]


def measure_ids(root: Path, kafka: LocalKafka, scale: Scale) -> list[Bound]:
    """Memory of a worker that remembers as many ids."""
    place = Place(root, kafka, "ids", _KEY, PARTITIONS)
    place.create(_SERVICE)
    with place.worker(_SERVICE) as worker:
        place.send(_unique(scale.burst, None))
        place.wait_until_read(_SERVICE)
        peak = _peak_mb(worker)
    detail = f"{scale.burst:,} ids of {_ID_CHARS} bytes, one worker, {PARTITIONS} partitions; VmHWM"
    return [Bound("memory of remembered ids", peak, 400, "MB", detail)]


def measure_idle(root: Path, kafka: LocalKafka, scale: Scale) -> list[Bound]:
    """CPU of a worker whose tasks have nothing to do."""
    place = Place(root, kafka, "idle", _SEQUENCE, _IDLE_PARTITIONS)
    place.create(_SERVICE)
    with place.worker(_SERVICE) as worker:
        time.sleep(_SETTLE_S)
        before_s = _cpu_s(worker)
        time.sleep(scale.idle_s)
        percent = 100 * (_cpu_s(worker) - before_s) / scale.idle_s
    detail = f"{_IDLE_PARTITIONS} partitions, {scale.idle_s:.0f} s, of one core"
    return [Bound("idle partitions", percent, 2, "%", detail)]


def measure_timers(root: Path, kafka: LocalKafka, scale: Scale) -> list[Bound]:
    """How much later than due gap timers fire while little else happens."""
    rules = f"ordering: {{policy: sequence, start: 1, gap_timeout: {_GAP_MS}ms}}"
    place = Place(root, kafka, "timers", rules, PARTITIONS)
    place.create(_SERVICE)
    with place.worker(_SERVICE):
        place.send(_second_numbers(scale.timers))
        place.wait_until_read(_SERVICE)
        time.sleep(2 * _GAP_MS / 1_000)
    late_ms = asyncio.run(_lateness(place))
    if len(late_ms) != scale.timers:
        raise BoundError(f"{len(late_ms)} timers have fired, not {scale.timers}")
    p99_ms = sorted(late_ms)[len(late_ms) * 99 // 100]
    median_ms = statistics.median(late_ms)
    detail = f"{len(late_ms)} timers of {_GAP_MS} ms, 20 a second; median {median_ms:.0f} ms"
    return [Bound("lateness of timers, p99", p99_ms, 100, "ms", detail)]


def measure_state(root: Path, kafka: LocalKafka, scale: Scale) -> list[Bound]:
    """Size of disk and changelogs after three times the time-to-live of steady load."""
    place = Place(root, kafka, "ttl", f"{_KEY}\ndedupe: {{ttl: {_TTL_S}s}}", PARTITIONS)
    place.create(_SERVICE, _kept_in_proportion)
    with place.worker(_SERVICE) as worker:
        place.send(_unique(3 * _TTL_S * scale.rate, scale.rate))
        place.wait_until_read(_SERVICE)
        disk_bytes = _size_of(worker.directory / "state")
        changelogs = sizes_on_disk(
            kafka.directory / "data",
            [f"{_SERVICE}-decide-bounds-ttl-{table}-changelog" for table in ("state", "ids")],
        )
    live = _live_bytes(worker.directory / "state")
    detail = f"{scale.rate:,} events/s for {3 * _TTL_S} s; live rows of {live / 1e6:.1f} MB"
    return [
        Bound("disk, times live bytes", disk_bytes / live, 3, "x", detail),
        Bound("changelogs, times live bytes", sum(changelogs.values()) / live, 3, "x", detail),
    ]


def measure_metrics(root: Path, kafka: LocalKafka, scale: Scale) -> list[Bound]:
    """CPU of a whole worker with metrics against the same without, in pairs."""
    place = Place(root, kafka, "metrics", _SEQUENCE, PARTITIONS)
    place.create("filled")
    place.send(records_of(profile_of(scale.pair_records)))
    ratios = []
    for pair in range(scale.pairs):
        # Each goes first as often: what warms up, warms up for both.
        order = ("edo_stream.app", "load.bounds.bare")[:: 1 if pair % 2 else -1]
        used_s = {app: _work_off(place, f"pair{pair}-{app[-3:]}", app) for app in order}
        ratios.append(used_s["edo_stream.app"] / used_s["load.bounds.bare"])
    percent = 100 * (statistics.median(ratios) - 1)
    shown = ", ".join(f"{100 * (ratio - 1):+.1f}" for ratio in ratios)
    detail = f"CPU of {scale.pairs} paired runs over {scale.pair_records:,} records: {shown} %"
    return [Bound("cost of metrics", percent, 3, "%", detail)]


def _work_off(place: Place, service: str, app: str) -> float:
    """CPU seconds that a worker needs for what is in the topic."""
    place.create(service)
    with place.worker(service, app) as worker:
        place.wait_until_read(service)
        return _cpu_s(worker)


def _unique(events: int, rate: int | None) -> Iterator[Planned]:
    """Events that no other repeats, with ids of the same length."""
    for number in range(events):
        headers = (
            ("ce_specversion", b"1.0"),
            ("ce_id", (b"%d" % number).rjust(_ID_CHARS, b"i")),
            ("ce_source", b"/load/bounds"),
            ("ce_type", b"load.thing.happened"),
            ("content-type", b"application/json"),
        )
        due_s = 0.0 if rate is None else number / rate
        key = b"key-%d" % (number % 2_000)
        yield Planned(due_s, key, b'{"n":%d}' % number, headers, Kind.EVENT, None)


def _second_numbers(keys: int) -> Iterator[Planned]:
    """The second event of each key, 20 a second: each waits for a first that never comes."""
    for planned, number in zip(_unique(keys, 20), count(), strict=False):
        headers = (*planned.headers, ("ce_sequence", b"2"))
        yield msgspec.structs.replace(planned, key=b"waits-%d" % number, headers=headers)


async def _lateness(place: Place) -> list[int]:
    """For each timer, the time of the step that fired it, less the time that it was due."""
    broker = {"bootstrap_servers": place.kafka.bootstrap}
    held_ms: dict[tuple[int, int], int] = {}
    async for record in records(ACCOUNTS, broker, lambda _: True):
        account = msgspec.json.decode(record.value or b"", type=Account)
        if account.topic == place.topic:
            for run in account.runs:
                if run.fate == Fate.HELD.value:
                    for offset in range(run.offset, run.offset + run.length):
                        held_ms[account.partition, offset] = account.at_ms
    due_ms = {}
    async for record in records(place.topic, broker, lambda _: True):
        due_ms[record.key.decode()] = held_ms[record.partition, record.offset] + _GAP_MS
    late = []
    async for record in records(GAPS, broker, lambda _: True):
        notice = msgspec.json.decode(record.value or b"")
        if notice["topic"] == place.topic:
            late.append(notice["at"] - due_ms[notice["key"]])
    return late


def _kept_in_proportion(wanted: Wanted) -> Wanted:
    """Let what is kept for hours go on in seconds: as a day is to its segments, so is the TTL."""
    if "changelog" not in wanted.name:
        return wanted
    ttl_ms = _TTL_S * 1_000
    config = {**wanted.config, "segment.ms": str(ttl_ms // 4)}
    return msgspec.structs.replace(wanted, config=config)


def _size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _live_bytes(directory: Path) -> int:
    """Keys and values of the rows that still count, on the disks of a worker that has ended.

    Ids that have expired by the task's stream time and were not swept yet do not.
    """
    size = 0
    for state in directory.rglob("*-state-?"):
        disk = RocksDisk(state)
        stream_s = load_task(Table(disk)).stream_ms // 1_000
        size += sum(len(key) + len(value) for key, value in disk.scan(b"\x01", b"\xff"))
        disk.close()
        of_ids = state.with_name(state.name.replace("-state-", "-ids-"))
        ids = RocksDisk(of_ids, format_=DISK_FORMAT, oldest=OLDEST_DISK_FORMAT)
        size += sum(
            len(key) + len(value)
            for key, value in ids.scan(b"\x01", b"\xff")
            if int.from_bytes(value[:4], "big") > stream_s
        )
        ids.close()
    return size


def _peak_mb(worker: LocalWorker) -> float:
    assert worker.pid is not None
    return peak_mb(worker.pid)


def _cpu_s(worker: LocalWorker) -> float:
    times = psutil.Process(worker.pid).cpu_times()
    return float(times.user + times.system)


MEASURES: Final = {
    "burst": measure_burst,
    "ids": measure_ids,
    "idle": measure_idle,
    "timers": measure_timers,
    "retries": measure_retries,
    "restart": measure_restart,
    "state": measure_state,
    "metrics": measure_metrics,
}


def names_of(wanted: Sequence[str]) -> list[str]:
    """Measurements by name, all without a name.

    Raises:
        BoundError: there is no such measurement.
    """
    if unknown := [name for name in wanted if name not in MEASURES]:
        raise BoundError(f"no such bound: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    return list(wanted) or list(MEASURES)
