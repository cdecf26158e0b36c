"""What the engine's hooks tell becomes metrics."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from edo_stream.core.accounts import Account, Fate
from edo_stream.core.effects import Effects
from edo_stream.observe.histogram import Histogram
from edo_stream.observe.metrics import DECLARED, Metrics, MetricsPage, metrics_table
from edo_stream.views import Failure, LettersView, Phase, StandbyPhase, StandbyView, TableView
from tests.observe.look import source, task, worker

NOW_MS = 1_700_000_000_000
TOPIC = "t.thing.done"
PAGE = Path(__file__).parents[2] / "docs/metrics.md"


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    return registry.get_sample_value(name, labels)


def text_of(*tasks: object) -> str:
    page = MetricsPage(Metrics(), lambda: worker(*tasks), lambda: NOW_MS)  # type: ignore[arg-type]
    return page().body.decode()


def test_records_count_once_when_read_and_once_when_settled() -> None:
    metrics = Metrics()
    counts = {(TOPIC, Fate.EMITTED.value): 3, (TOPIC, Fate.HELD.value): 2}
    metrics.committed("g", Effects(counts=counts), 0.02, NOW_MS)
    settled = {(TOPIC, Fate.EMITTED.value): 2}
    metrics.committed("g", Effects(settled=settled), 0.02, NOW_MS)

    place = {"group": "g", "topic": TOPIC}
    assert value(metrics, "edo_records_total", fate="emitted", **place) == 3
    assert value(metrics, "edo_records_total", fate="held", **place) == 2
    assert value(metrics, "edo_settled_total", fate="emitted", **place) == 2
    assert value(metrics, "edo_batch_records_sum", group="g") == 5
    assert value(metrics, "edo_batch_records_count", group="g") == 1
    assert value(metrics, "edo_transaction_seconds_count", group="g") == 2


def test_lost_ranges_count_their_offsets() -> None:
    metrics = Metrics()
    account = Account("app", "g", TOPIC, 0, NOW_MS, lost=(3, 8))
    metrics.committed("g", Effects(accounts=[account]), 0.01, NOW_MS)
    assert value(metrics, "edo_lost_records_total", group="g", topic=TOPIC) == 5


def test_trigger_to_ready_is_from_the_event_s_own_time_to_the_commit() -> None:
    metrics = Metrics()
    times_ms = [NOW_MS - 2_000, NOW_MS - 40, NOW_MS + 5]
    metrics.committed("g", Effects(times_ms={TOPIC: times_ms}), 0.01, NOW_MS)
    place = {"group": "g", "topic": TOPIC}
    name = "edo_trigger_to_ready_seconds"
    assert value(metrics, f"{name}_bucket", le="0.01", **place) == 1
    assert value(metrics, f"{name}_bucket", le="0.05", **place) == 2
    assert value(metrics, f"{name}_bucket", le="2.5", **place) == 3
    assert value(metrics, f"{name}_sum", **place) == 2.04


def test_each_failure_is_a_reset_and_what_it_was() -> None:
    metrics = Metrics()
    for failure in Failure:
        metrics.failed("g", failure)
    metrics.rewound("g")
    metrics.restored("g", 7, 0.5)
    assert value(metrics, "edo_resets_total", group="g") == len(Failure)
    for name in ("edo_transactions_aborted", "edo_transactions_unknown", "edo_fences"):
        assert value(metrics, f"{name}_total", group="g") == 1
    assert value(metrics, "edo_rewinds_total", group="g") == 1
    assert value(metrics, "edo_restored_records_total", group="g") == 7


def test_gauges_show_where_the_worker_stands() -> None:
    behind = source(lag_records=5, lag_ms=1_500, held=2, held_since_ms=NOW_MS - 3_000)
    text = text_of(task(behind), task(partition=1, phase=Phase.REFUSED))
    place = f'group="g",partition="0",topic="{TOPIC}"'
    lines = set(text.splitlines())
    assert f"edo_lag_seconds{{{place}}} 1.5" in lines
    assert f"edo_held_oldest_seconds{{{place}}} 3.0" in lines
    assert (
        f'kafka_consumergroup_lag{{consumergroup="edo-decide",partition="0",topic="{TOPIC}"}} 5.0'
        in lines
    )
    assert 'edo_task_running{group="g",partition="0"} 1.0' in lines
    assert 'edo_task_refused{group="g",partition="1"} 1.0' in lines
    assert 'edo_rocksdb_file_bytes{group="g",partition="1"} 100.0' in lines
    assert 'edo_worker_info{app="edo-decide",version="1"} 1.0' in lines


def test_standbys_show_how_far_behind_they_are() -> None:
    metrics = Metrics()
    metrics.stood_by("g", 3)
    metrics.stood_by("g", 4)
    assert value(metrics, "edo_standby_records_total", group="g") == 7

    standbys = (
        StandbyView("g", 1, StandbyPhase.FOLLOWING, lag_records=12, applied_records=7),
        StandbyView("g", 2, StandbyPhase.WAITING, lag_records=None, applied_records=0),
    )
    page = MetricsPage(metrics, lambda: worker(standbys=standbys), lambda: NOW_MS)
    text = page().body.decode()
    assert 'edo_standby_lag_records{group="g",partition="1"} 12.0' in text
    assert 'edo_standby_lag_records{group="g",partition="2"}' not in text


def test_global_tables_show_their_rows_and_how_far_behind_they_are() -> None:
    tables = (TableView("t.a", True, 9, 4, 100, 200), TableView("t.b", False, 0, None, 0, 0))
    page = MetricsPage(Metrics(), lambda: worker(tables=tables), lambda: NOW_MS)
    lines = page().body.decode().splitlines()
    assert 'edo_global_table_rows{topic="t.a"} 9.0' in lines
    assert 'edo_global_table_file_bytes{topic="t.a"} 100.0' in lines
    assert 'edo_global_table_lag_records{topic="t.a"} 4.0' in lines
    assert [] == [
        one for one in lines if one.startswith('edo_global_table_lag_records{topic="t.b"')
    ]


def test_dead_letters_are_shown_by_the_worker_that_counts_them() -> None:
    letters = (LettersView("team-a", waiting=3, oldest_age_ms=1_500, overdue=1),)
    page = MetricsPage(Metrics(), lambda: worker(letters=letters), lambda: NOW_MS)
    lines = page().body.decode().splitlines()
    assert 'edo_dead_letters_waiting{owner="team-a"} 3.0' in lines
    assert 'edo_dead_letters_oldest_seconds{owner="team-a"} 1.5' in lines
    assert 'edo_dead_letters_overdue{owner="team-a"} 1.0' in lines
    assert "edo_dead_letters_watched 1.0" in lines
    other = MetricsPage(Metrics(), worker, lambda: NOW_MS)
    lines = other().body.decode().splitlines()
    assert "edo_dead_letters_watched 0.0" in lines
    assert [] == [line for line in lines if line.startswith("edo_dead_letters_waiting{")]


def test_retries_are_counted_by_how_late_they_ran() -> None:
    metrics = Metrics()
    for late_ms in (0, 4, 40, 400):
        metrics.retried("g", "ship", late_ms)
    name = "edo_retry_late_seconds"
    counts = [value(metrics, f"{name}_bucket", flow="ship", le=le) for le in ("0.005", "0.05")]
    assert [2, 3] == counts
    assert 0.444 == value(metrics, f"{name}_sum", flow="ship")


def test_what_is_not_known_is_not_shown() -> None:
    unknown = source(next_offset=None, lag_records=None, lag_ms=None)
    text = text_of(task(unknown, phase=Phase.FENCING))
    assert "edo_lag_records{" not in text
    assert "edo_lag_seconds{" not in text
    assert "kafka_consumergroup_lag{" not in text


def test_all_metrics_that_are_declared_are_served_and_the_page_has_them() -> None:
    text = text_of(task(source()))
    for declared in DECLARED:
        name = declared.name.removesuffix("_total")
        assert f"# TYPE {name}" in text, declared.name
    assert metrics_table() in PAGE.read_text()


def test_labels_are_never_keys_or_ids() -> None:
    labels = {label for declared in DECLARED for label in declared.labels}
    of_records = {"flow", "reason", "group", "topic", "partition", "fate", "consumergroup"}
    of_contracts = {"contract", "version", "rule", "policy", "from_version", "to_version"}
    of_contracts |= {"revision"}
    of_declarations = {"owner", "saga", "change"}
    assert of_records | of_contracts | of_declarations == labels


@given(st.lists(st.integers(-5_000, 20_000)))
def test_many_ages_at_once_count_as_one_by_one(ages_ms: list[int]) -> None:
    bounds = (0.01, 0.5, 1.0, 10.0)
    one_by_one, at_once = Histogram(bounds), Histogram(bounds)
    for age_ms in ages_ms:
        one_by_one.add(max(0, age_ms) / 1000)
    at_once.add_ages([NOW_MS - age_ms for age_ms in ages_ms], NOW_MS)
    assert at_once.buckets() == one_by_one.buckets()
    assert abs(at_once.sum - one_by_one.sum) < 1e-6
