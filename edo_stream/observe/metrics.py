"""Metrics of a worker for Prometheus.

What happens is told by the engine's hooks, once a transaction, and counted here in plain
dictionaries; where things stand is looked at when Prometheus asks. Labels are topics, partitions,
groups and fates: never keys, ids or anything else that an event brings along.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from edo_stream.core.accounts import Fate
from edo_stream.core.effects import Effects
from edo_stream.observe.histogram import Histogram
from edo_stream.schemas.enforcement import Tally
from edo_stream.views import (
    Failure,
    LettersView,
    Page,
    Phase,
    SourceView,
    TargetView,
    TaskView,
    WaitsView,
    WorkerView,
)

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_READY_SECONDS: Final = (*_SECONDS[1:], 30.0, 60.0, 300.0, 900.0, 3600.0)
_LATE_SECONDS: Final = (0.001, *_SECONDS, 30.0, 60.0, 300.0)
_RECORDS: Final = (1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0)

_FATES: Final = {fate.value: fate.name.lower() for fate in Fate}

Row = tuple[list[str], float | None]


class Declared(msgspec.Struct, frozen=True):
    """A metric, as Prometheus and the reference show it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


class Measured(NamedTuple):
    """A gauge, and how to see it in a worker; ``None`` is not shown."""

    declared: Declared
    rows: Callable[[WorkerView], Iterable[Row]]


def _counter(name: str, labels: str, help_: str) -> Declared:
    return Declared(name, "counter", tuple(labels.split()), help_)


def _histogram(name: str, labels: str, help_: str) -> Declared:
    return Declared(name, "histogram", tuple(labels.split()), help_)


def _of_sources(name: str, help_: str, see: Callable[[SourceView], float | None]) -> Measured:
    def rows(worker: WorkerView) -> Iterator[Row]:
        for task in worker.tasks:
            for source in task.sources:
                yield [task.group, source.topic, str(task.partition)], see(source)

    return Measured(Declared(name, "gauge", ("group", "topic", "partition"), help_), rows)


def _contracts(worker: WorkerView) -> Iterator[Row]:
    for task in worker.tasks:
        for source in task.sources:
            if source.contract:
                place = [task.group, source.topic, str(task.partition)]
                yield [*place, source.contract, str(source.contract_version)], 1.0


def _of_tasks(name: str, help_: str, see: Callable[[TaskView], float]) -> Measured:
    def rows(worker: WorkerView) -> Iterator[Row]:
        for task in worker.tasks:
            yield [task.group, str(task.partition)], see(task)

    return Measured(Declared(name, "gauge", ("group", "partition"), help_), rows)


def _of_targets(name: str, help_: str, see: Callable[[TargetView], float]) -> Measured:
    def rows(worker: WorkerView) -> Iterator[Row]:
        for target in worker.targets:
            yield [target.flow], see(target)

    return Measured(Declared(name, "gauge", ("flow",), help_), rows)


def _of_waits(name: str, help_: str, see: Callable[[WaitsView], float]) -> Measured:
    def rows(worker: WorkerView) -> Iterator[Row]:
        for task in worker.tasks:
            for waits in task.waits:
                yield [waits.flow, str(task.partition)], see(waits)

    return Measured(Declared(name, "gauge", ("flow", "partition"), help_), rows)


def _of_letters(name: str, help_: str, see: Callable[[LettersView], float]) -> Measured:
    def rows(worker: WorkerView) -> Iterator[Row]:
        for letters in worker.letters or ():
            yield [letters.owner], see(letters)

    return Measured(Declared(name, "gauge", ("owner",), help_), rows)


def _watches(worker: WorkerView) -> Iterator[Row]:
    yield [], float(worker.letters is not None)


def _seconds(time_ms: int | None) -> float | None:
    return None if time_ms is None else time_ms / 1000


RECORDS: Final = _counter(
    "edo_records_total",
    "group topic fate",
    "Records read, each once, by what became of them in the transaction that read them: "
    + ", ".join(_FATES.values()),
)
SETTLED: Final = _counter(
    "edo_settled_total",
    "group topic fate",
    "Records that were held, by what became of them later",
)
LOST: Final = _counter(
    "edo_lost_records_total",
    "group topic",
    "Offsets that were gone from the log unread and were skipped with EDO_ACCEPT_LOSS",
)
VIOLATIONS: Final = _counter(
    "edo_contract_violations_total",
    "contract version rule policy",
    "Events that break their contract, by the rule that they break: a keyword of the schema, or "
    "sunset, expired, producer, version, cast, json, avro, frame; transactions that were done "
    "again count again",
)
CAST: Final = _counter(
    "edo_contract_cast_total",
    "contract from_version to_version",
    "Events that were made into another version of their schema",
)
SAMPLED: Final = _counter(
    "edo_sampled_keys_total", "contract", "Keys that were compared with their partitions"
)
MISPLACED: Final = _counter(
    "edo_misplaced_keys_total",
    "contract",
    "Sampled keys that came on another partition than Kafka's own partitioner would have chosen",
)
REPLAYED: Final = _counter(
    "edo_replayed_events_total",
    "flow reason",
    "Events that replays have looked at for a flow: replayed, or the reason why not",
)
SAGA_CHANGES: Final = _counter(
    "edo_saga_changes_total",
    "saga change",
    "What has happened to instances of a saga: started, completed, compensated, stuck and so on",
)
READY: Final = _histogram(
    "edo_trigger_to_ready_seconds",
    "group topic",
    "From the time at which an event happened, as it says itself, or else its record's timestamp, "
    "to the commit of its result; time in the gap buffer included",
)
BATCH: Final = _histogram("edo_batch_records", "group", "Records read by one transaction")
TRANSACTION: Final = _histogram(
    "edo_transaction_seconds", "group", "Transactions that were committed, from begin to commit"
)
RETRY_LATE: Final = _histogram(
    "edo_retry_late_seconds",
    "flow",
    "How long after it was due a retry began to run; none is early. Waiting for a slot, a rate or "
    "a breaker included",
)
_FAILURES: Final = {
    Failure.ABORTED: _counter(
        "edo_transactions_aborted_total", "group", "Transactions of which nothing is visible"
    ),
    Failure.UNKNOWN: _counter(
        "edo_transactions_unknown_total",
        "group",
        "Transactions whose commit was asked for and not confirmed; the task then reads from the "
        "log what is true",
    ),
    Failure.FENCED: _counter(
        "edo_fences_total", "group", "Tasks that another worker has taken over while they ran"
    ),
}
RESETS: Final = _counter(
    "edo_resets_total",
    "group",
    "Tasks that dropped what was uncommitted and started over, for any reason",
)
REWINDS: Final = _counter(
    "edo_rewinds_total",
    "group",
    "Reads that were done again because a batch did not arrive, mostly after a rebalance",
)
RESTORE: Final = _histogram(
    "edo_restore_seconds", "group", "Restores of a task's tables from their changelogs"
)
RESTORED: Final = _counter(
    "edo_restored_records_total", "group", "Changelog records read by restores"
)
STOOD_BY: Final = _counter(
    "edo_standby_records_total", "group", "Changelog records applied by standbys"
)

_GAUGES: Final = (
    _of_sources(
        "edo_next_offset", "First offset that is not processed", lambda source: source.next_offset
    ),
    _of_sources(
        "edo_lag_records",
        "Offsets between the next one and the last stable offset that the last fetch told; 0 when "
        "only transaction markers are left. Not up to date while a task is not running",
        lambda source: source.lag_records,
    ),
    _of_sources(
        "edo_lag_seconds",
        "Age of the oldest record that is not processed, by its timestamp, and 0 without lag. "
        "While no record is at hand: age of the last one processed, which is older",
        lambda source: _seconds(source.lag_ms),
    ),
    _of_sources("edo_held_records", "Events in the gap buffer", lambda source: source.held),
    _of_sources(
        "edo_source_paused",
        "1 while an operator has paused the flow whose commands these are",
        lambda source: float(source.is_paused),
    ),
    Measured(
        Declared(
            "edo_contract_info",
            "gauge",
            ("group", "topic", "partition", "revision", "version"),
            "1 for the contract that a task judges records by, and its newest schema version",
        ),
        _contracts,
    ),
    _of_targets(
        "edo_action_running", "Actions of a flow that run", lambda target: float(target.running)
    ),
    _of_targets(
        "edo_breaker_open",
        "1 while nothing of a flow runs because its receiver is broken, or an operator said so; "
        "0.5 while it is tried one by one",
        lambda target: {"closed": 0.0, "half-open": 0.5}.get(target.breaker, 1.0),
    ),
    _of_targets(
        "edo_breaker_opened",
        "How often a flow's breaker has opened since the worker started",
        lambda target: float(target.opened),
    ),
    _of_targets(
        "edo_flow_stopped",
        "1 when a flow has stopped because most of its commands became dead letters",
        lambda target: float(target.is_stopped),
    ),
    _of_waits("edo_waits_open", "Waits of a flow that are open", lambda waits: float(waits.open)),
    _of_waits("edo_waits_events", "Events that wait in them", lambda waits: float(waits.events)),
    _of_waits(
        "edo_waits_oldest_seconds",
        "Age of the wait whose deadline is the next; 0 when none is open",
        lambda waits: waits.oldest_age_ms / 1000,
    ),
    _of_waits(
        "edo_waits_fired",
        "Results of a flow that waits, since its state began",
        lambda waits: float(waits.fired),
    ),
    _of_waits(
        "edo_waits_timed_out",
        "Waits whose deadline has passed, since the state began",
        lambda waits: float(waits.timed_out),
    ),
    _of_waits(
        "edo_waits_late",
        "Events that came after their wait had ended, since the state began",
        lambda waits: float(waits.late),
    ),
    _of_waits(
        "edo_waits_refused",
        "Events that became dead letters because a bound was reached, since the state began",
        lambda waits: float(waits.refused),
    ),
    _of_letters(
        "edo_dead_letters_waiting",
        "Dead letters of the whole fleet that nobody has acknowledged; one worker counts them, as "
        "edo_dead_letters_watched says",
        lambda letters: float(letters.waiting),
    ),
    _of_letters(
        "edo_dead_letters_oldest_seconds",
        "Age of the oldest of them; 0 when none waits",
        lambda letters: letters.oldest_age_ms / 1000,
    ),
    _of_letters(
        "edo_dead_letters_overdue",
        "Those that had to be acknowledged by now: acknowledge_within of the contract or the flow",
        lambda letters: float(letters.overdue),
    ),
    Measured(
        Declared(
            "edo_dead_letters_watched",
            "gauge",
            (),
            "1 on the worker that counts dead letters, once it has read them all",
        ),
        _watches,
    ),
    _of_tasks(
        "edo_task_running",
        "1 when the task processes, 0 while it restores, waits or has stopped",
        lambda task: float(task.phase is Phase.RUNNING),
    ),
    _of_tasks(
        "edo_task_refused",
        "1 when the task has stopped because it would lose or repeat something; /status says what",
        lambda task: float(task.phase is Phase.REFUSED),
    ),
)

HELD_OLDEST: Final = Declared(
    "edo_held_oldest_seconds",
    "gauge",
    ("group", "topic", "partition"),
    "How long the event that waits longest in the gap buffer has waited; 0 when none waits",
)
DISK_FILES: Final = Declared(
    "edo_rocksdb_file_bytes", "gauge", ("group", "partition"), "Size of the tables' SST files"
)
DISK_MEMORY: Final = Declared(
    "edo_rocksdb_memory_bytes",
    "gauge",
    ("group", "partition"),
    "Memory of the tables' RocksDBs: memtables, block cache, indexes and filters",
)
STANDBY_LAG: Final = Declared(
    "edo_standby_lag_records",
    "gauge",
    ("group", "partition"),
    "Offsets of its changelogs that a standby has not applied; none until it has begun, or when it "
    "has failed",
)
TABLE_ROWS: Final = Declared(
    "edo_global_table_rows", "gauge", ("topic",), "Rows of a global table that the worker has"
)
TABLE_BYTES: Final = Declared(
    "edo_global_table_file_bytes", "gauge", ("topic",), "Size of a global table's SST files"
)
TABLE_LAG: Final = Declared(
    "edo_global_table_lag_records",
    "gauge",
    ("topic",),
    "Offsets of a global table that the worker has not applied; none until the broker has told",
)
GROUP_LAG: Final = Declared(
    "kafka_consumergroup_lag",
    "gauge",
    ("consumergroup", "topic", "partition"),
    "edo_lag_records under the name that dashboards of kafka_exporter know",
)
WORKER: Final = Declared("edo_worker_info", "info", (), "Application id and version")

#: All metrics in the order of the reference. Those of the process are Prometheus' own.
DECLARED: Final = (
    *(RECORDS, SETTLED, LOST, VIOLATIONS, CAST, SAMPLED, MISPLACED, REPLAYED),
    *(SAGA_CHANGES, READY, BATCH, TRANSACTION, RETRY_LATE),
    *(*_FAILURES.values(), RESETS, REWINDS, RESTORE, RESTORED, STOOD_BY),
    *(gauge.declared for gauge in _GAUGES),
    *(HELD_OLDEST, DISK_FILES, DISK_MEMORY, STANDBY_LAG),
    *(TABLE_ROWS, TABLE_BYTES, TABLE_LAG, GROUP_LAG, WORKER),
)


class Metrics(Collector):
    """Counts what the engine's hooks tell, and shows it."""

    def __init__(self, tally: Tally | None = None) -> None:
        self._sums: dict[Declared, Counter[tuple[str, ...]]] = defaultdict(Counter)
        if tally is not None:
            # Counted while records are decoded, and read when Prometheus asks.
            self._sums[VIOLATIONS], self._sums[CAST] = tally.violations, tally.cast
            self._sums[SAMPLED], self._sums[MISPLACED] = tally.sampled, tally.misplaced
        self._ready: dict[tuple[str, str], Histogram] = {}
        self._histograms: dict[tuple[Declared, str], Histogram] = {}

    # The engine's hooks: see edo_stream.engine.hooks.

    def committed(self, group: str, effects: Effects, seconds: float, at_ms: int) -> None:
        """Count a transaction."""
        for declared, counts in ((RECORDS, effects.counts), (SETTLED, effects.settled)):
            sums = self._sums[declared]
            for (topic, fate), count in counts.items():
                sums[group, topic, _FATES[fate]] += count
        for replayed, count in effects.replayed.items():
            self._sums[REPLAYED][replayed] += count
        for change, count in effects.changes.items():
            self._sums[SAGA_CHANGES][change] += count
        for account in effects.accounts:
            if account.lost is not None:
                first, next_ = account.lost
                self._sums[LOST][group, account.topic] += next_ - first
        for topic, times_ms in effects.times_ms.items():
            ready = self._ready.get((group, topic))
            if ready is None:
                ready = self._ready[group, topic] = Histogram(_READY_SECONDS)
            ready.add_ages(times_ms, at_ms)
        self._histogram(TRANSACTION, group, _SECONDS).add(seconds)
        if effects.counts:
            self._histogram(BATCH, group, _RECORDS).add(sum(effects.counts.values()))

    def failed(self, group: str, failure: Failure) -> None:
        """Count a task that starts over."""
        self._sums[RESETS][(group,)] += 1
        if (declared := _FAILURES.get(failure)) is not None:
            self._sums[declared][(group,)] += 1

    def restored(self, group: str, records: int, seconds: float) -> None:
        """Count a restore."""
        self._histogram(RESTORE, group, _READY_SECONDS).add(seconds)
        self._sums[RESTORED][(group,)] += records

    def rewound(self, group: str) -> None:
        """Count a read that is done again."""
        self._sums[REWINDS][(group,)] += 1

    def stood_by(self, group: str, records: int) -> None:
        """Count what standbys apply."""
        self._sums[STOOD_BY][(group,)] += records

    def retried(self, group: str, flow: str, late_ms: int) -> None:
        """Count a retry."""
        self._histogram(RETRY_LATE, flow, _LATE_SECONDS).add(late_ms / 1000)

    def _histogram(self, declared: Declared, group: str, bounds: tuple[float, ...]) -> Histogram:
        histogram = self._histograms.get((declared, group))
        if histogram is None:
            histogram = self._histograms[declared, group] = Histogram(bounds)
        return histogram

    # What Prometheus gets.

    def collect(self) -> Iterator[Metric]:
        """Give what was counted."""
        for declared in DECLARED:
            if declared.kind == "counter":
                yield _counters(declared, self._sums[declared])
        groups: dict[Declared, dict[tuple[str, ...], Histogram]] = defaultdict(dict)
        groups[READY].update(self._ready.items())
        for (declared, group), histogram in self._histograms.items():
            groups[declared][group,] = histogram
        for declared in DECLARED:
            if declared.kind == "histogram":
                yield _histograms(declared, groups[declared])


class _Worker(Collector):
    """Shows where a worker stands."""

    def __init__(self, worker: WorkerView, now_ms: int) -> None:
        self._worker = worker
        self._now_ms = now_ms

    def collect(self) -> Iterator[Metric]:
        worker = self._worker
        for declared, see in _GAUGES:
            yield _gauges(declared, see(worker))
        yield _gauges(HELD_OLDEST, self._held_oldest())
        places = [[disk.group, str(disk.partition)] for disk in worker.disks]
        files = [float(disk.file_bytes) for disk in worker.disks]
        memory = [float(disk.memory_bytes) for disk in worker.disks]
        yield _gauges(DISK_FILES, zip(places, files, strict=True))
        yield _gauges(DISK_MEMORY, zip(places, memory, strict=True))
        yield _gauges(
            STANDBY_LAG,
            (([one.group, str(one.partition)], one.lag_records) for one in worker.standbys),
        )
        tables = worker.tables
        yield _gauges(TABLE_ROWS, (([one.topic], one.rows) for one in tables))
        yield _gauges(TABLE_BYTES, (([one.topic], one.file_bytes) for one in tables))
        yield _gauges(TABLE_LAG, (([one.topic], one.lag_records) for one in tables))
        yield _gauges(GROUP_LAG, self._group_lag())
        info = {"app": worker.app, "version": worker.version}
        yield InfoMetricFamily(WORKER.name.removesuffix("_info"), WORKER.help, value=info)

    def _held_oldest(self) -> Iterator[Row]:
        for task in self._worker.tasks:
            for source in task.sources:
                since_ms = self._now_ms if source.held_since_ms is None else source.held_since_ms
                age_s = max(0, self._now_ms - since_ms) / 1000
                yield [task.group, source.topic, str(task.partition)], age_s

    def _group_lag(self) -> Iterator[Row]:
        for task in self._worker.tasks:
            for source in task.sources:
                place = [self._worker.app, source.topic, str(task.partition)]
                yield place, source.lag_records


def _counters(declared: Declared, sums: Mapping[tuple[str, ...], int]) -> CounterMetricFamily:
    family = CounterMetricFamily(declared.name, declared.help, labels=declared.labels)
    for labels, value in sorted(sums.items()):
        family.add_metric(labels, value)
    return family


def _histograms(
    declared: Declared, histograms: Mapping[tuple[str, ...], Histogram]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(declared.name, declared.help, labels=declared.labels)
    for labels, histogram in sorted(histograms.items(), key=lambda item: item[0]):
        family.add_metric(labels, histogram.buckets(), histogram.sum)
    return family


def _gauges(declared: Declared, rows: Iterable[Row]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(declared.name, declared.help, labels=declared.labels)
    for labels, value in rows:
        if value is not None:
            family.add_metric(labels, value)
    return family


class MetricsPage:
    """The page that Prometheus reads."""

    def __init__(
        self, metrics: Metrics, look: Callable[[], WorkerView], now_ms: Callable[[], int]
    ) -> None:
        self._metrics = metrics
        self._look = look
        self._now_ms = now_ms
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    def __call__(self) -> Page:
        """Look at the worker and write all metrics down."""
        now_ms = self._now_ms()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self._metrics)
        registry.register(_Worker(self._look(), now_ms))
        body = generate_latest(registry) + generate_latest(self._process)
        return Page(200, CONTENT_TYPE_LATEST, body)


def metrics_table() -> str:
    """All metrics as a Markdown table, for the documentation."""
    rows = ["| Metric | Kind | Labels | Meaning |", "|---|---|---|---|"]
    for declared in DECLARED:
        labels = ", ".join(declared.labels)
        rows.append(f"| `{declared.name}` | {declared.kind} | {labels} | {declared.help} |")
    return "\n".join(rows) + "\n"
