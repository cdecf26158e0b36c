"""The bench's arithmetic: pairs, ratios, void runs, tables. What it finds is found by hand."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from load.bench.codecs import Codec
from load.bench.faults import Endurance, kill_marks
from load.bench.latency import Latency, latencies_ms
from load.bench.machine import Reading, read_machine, usage_between
from load.bench.pairs import Ratio, ratios, rotated, summaries
from load.bench.peers import HOME
from load.bench.programs import OURS, PROGRAMS, Part
from load.bench.records import profile_of, records_of
from load.bench.report import (
    MARK,
    Found,
    as_json,
    as_markdown,
    read_json,
    screen_table,
    speed_table,
    write_json,
    write_page,
)
from load.bench.run import Run
from load.bench.topics import sizes_on_disk
from load.plan import Kind, plan

RUN = Run(
    program=OURS,
    pair=1,
    records=1_000,
    end="done",
    startup_s=1.0,
    duration_s=1.0,
    cpu_us_per_event=10.0,
    broker_cpu_us_per_event=5.0,
    peak_mb=100.0,
    other_cores=0.1,
    is_void=False,
    lost=0,
    repeated=0,
    out_of_order=0,
    unexpected=0,
)
VOID = replace(RUN, is_void=True, other_cores=0.9)
LATENCY = Latency(OURS, 2_000, 20.0, 60.0, 90.0, 38_000, 0, 2.0, 0.2, 0.1, is_void=False)
FAULT = Endurance("faust", 100, 5, 1, "done", 60.0, [2.0, 7.0, 8.4], 3, 4, 5, 0, {})
CODEC = Codec("none", "zstd", True, False, 500.0, 60.0, 20.0, 50_000.0, 14.0, 7.0)


def of(program: str, pair: int, duration_s: float) -> Run:
    return replace(RUN, program=program, pair=pair, duration_s=duration_s)


# -- pairs


def test_a_program_is_compared_with_ours_of_the_same_round() -> None:
    runs = [of(OURS, 1, 1.0), of("faust", 1, 10.0), of(OURS, 2, 2.0), of("faust", 2, 40.0)]
    assert {"faust": Ratio(15.0, 10.0, 20.0, 2)} == ratios(runs)


def test_a_ratio_is_the_median_and_not_the_mean() -> None:
    runs = [of(OURS, pair, 1.0) for pair in (1, 2, 3)]
    runs += [of("faust", pair, took) for pair, took in ((1, 2.0), (2, 3.0), (3, 100.0))]
    assert ratios(runs)["faust"].median == 3.0


@pytest.mark.parametrize(
    "change",
    [{"is_void": True}, {"lost": 1}, {"repeated": 1}, {"out_of_order": 1}, {"end": "stalled"}],
)
def test_a_run_that_is_void_or_wrong_makes_no_pair(change: dict[str, object]) -> None:
    runs = [RUN, replace(of("faust", 1, 10.0), **change)]
    assert ratios(runs) == {}


def test_a_round_without_a_valid_run_of_ours_counts_for_nothing() -> None:
    assert ratios([VOID, of("faust", 1, 10.0)]) == {}


def test_a_repeated_run_stands_for_the_void_one_of_its_round() -> None:
    runs = [replace(VOID, duration_s=50.0), RUN, of("faust", 1, 10.0)]
    assert ratios(runs)["faust"].median == 10.0


def test_each_round_begins_with_another_program() -> None:
    orders = [rotated(["a", "b", "c"], turn) for turn in range(4)]
    assert [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]] == orders


def test_medians_are_of_the_valid_runs() -> None:
    runs = [replace(RUN, duration_s=0.5), replace(VOID, duration_s=9.0)]
    summary = summaries(runs)[OURS]
    assert (summary.events_per_s, summary.valid, summary.runs) == (2_000.0, 1, 2)


def test_without_a_valid_run_the_medians_are_of_all() -> None:
    summary = summaries([VOID, replace(VOID, duration_s=3.0)])[OURS]
    assert summary.valid == 0
    assert 333.0 < summary.events_per_s < 1_000.0


# -- the machine


def reading(at_ms: int, busy_s: float, worker_s: float = 0.0) -> Reading:
    return Reading(at_ms, busy_s, bench_s=worker_s / 10, worker_s=worker_s, broker_s=worker_s / 2)


def test_what_neither_worker_nor_broker_nor_bench_used_is_the_work_of_others() -> None:
    usage = usage_between(reading(0, 100.0), reading(10_000, 120.0, worker_s=10.0))
    assert (usage.wall_s, usage.worker_s, usage.broker_s) == (10.0, 10.0, 5.0)
    assert usage.other_cores == pytest.approx(0.4)


@pytest.mark.parametrize(("busy_s", "is_void"), [(2.9, False), (3.1, True)])
def test_a_run_is_void_when_others_used_more_than_three_tenths_of_a_core(
    busy_s: float, is_void: bool
) -> None:
    assert usage_between(reading(0, 0.0), reading(10_000, busy_s)).is_void is is_void


def test_clocks_that_tick_apart_are_no_negative_work() -> None:
    assert usage_between(reading(0, 0.0), reading(1_000, 0.5, worker_s=1.0)).other_cores == 0.0


def test_a_process_that_is_gone_has_used_nothing() -> None:
    assert read_machine(None, broker_pid=2**22 + 1).broker_s == 0.0


# -- records and files


def test_records_have_text_of_their_own_and_are_the_plans_otherwise() -> None:
    profile = profile_of(300)
    pairs = list(zip(records_of(profile), plan(profile), strict=True))
    assert [one.headers for one, _ in pairs] == [other.headers for _, other in pairs]
    assert [len(one.value) for one, _ in pairs] == [len(other.value) for _, other in pairs]
    notes = {json.loads(one.value)["note"] for one, _ in pairs if one.kind is not Kind.DUPLICATE}
    assert len(notes) == profile.events


def test_a_duplicate_repeats_its_original_byte_for_byte() -> None:
    values: dict[bytes, set[bytes]] = {}
    for record in records_of(profile_of(3_000)):
        values.setdefault(dict(record.headers)["ce_id"], set()).add(record.value)
    assert {len(each) for each in values.values()} == {1}


def test_about_as_many_records_as_asked_for_a_twentieth_of_them_duplicates() -> None:
    kinds = [record.kind for record in plan(profile_of(20_000))]
    assert len(kinds) == pytest.approx(20_000, rel=0.01)
    assert kinds.count(Kind.DUPLICATE) == pytest.approx(1_000, rel=0.1)


def test_kills_part_the_work_evenly() -> None:
    assert [100, 200, 300, 400, 500] == kill_marks(600, 5)


def test_latency_counts_after_the_warm_up() -> None:
    assert [5.0, 7.0] == list(latencies_ms([(10, 90), (20, 25), (30, 37)], warm_until_ms=20))


def test_the_size_of_a_topic_is_that_of_its_records(tmp_path: Path) -> None:
    for name in ("a-0", "a-1", "a-b-0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.log").write_bytes(b"12345")
        (tmp_path / name / "0.index").write_bytes(b"1")
    assert {"a": 10, "a-b": 5} == sizes_on_disk(tmp_path, ["a", "a-b"])


def test_the_peers_are_pinned() -> None:
    lines = (HOME / "constraints.txt").read_text().splitlines()
    names = {line.partition("==")[0] for line in lines}
    assert {"quixstreams", "faststream", "confluent-kafka"} <= names
    assert [line for line in lines if "==" not in line] == []


def test_our_engine_takes_part_in_everything() -> None:
    assert PROGRAMS[OURS].parts == frozenset(Part)


# -- the report

FOUND = Found([RUN, of("faust", 1, 10.0)], [LATENCY], [FAULT], [CODEC])


def test_the_report_has_what_programs_look_for() -> None:
    report = as_json(FOUND)
    assert {"runs", "ratio", "cpu_us_per_event", "latency_ms"} <= report.keys()
    assert report["ratio"] == {
        "kafka_streams_100ms": None,
        "kafka_streams_tuned": None,
        "quix_eos": None,
        "faust": 10.0,
        "plain_loop": None,
    }
    assert report["cpu_us_per_event"] == {OURS: 10.0, "faust": 10.0}
    assert report["latency_ms"][OURS]["p99"] == 60.0
    assert [run["void"] for run in report["runs"]] == [False, False]


@pytest.mark.parametrize(
    ("found", "is_exact"),
    [
        (FOUND, True),
        (Found([replace(RUN, lost=1)]), False),
        (Found([replace(RUN, program="faust", lost=1)]), True),
        (Found(faults=[replace(FAULT, program=OURS)]), False),
        (Found(codecs=[replace(CODEC, exact=False)]), False),
    ],
)
def test_only_our_own_mistakes_fail_the_bench(found: Found, is_exact: bool) -> None:
    assert found.is_ours_exact is is_exact


def test_a_report_is_read_back_to_go_on_with(tmp_path: Path) -> None:
    found = Found([RUN, VOID], [LATENCY], [FAULT], [CODEC])
    write_json(tmp_path / "bench.json", found)

    assert found == read_json(tmp_path / "bench.json")
    assert Found() == read_json(tmp_path / "none.json")


def test_the_report_can_be_written_before_anything_was_measured(tmp_path: Path) -> None:
    write_json(tmp_path / "build" / "bench.json", Found())
    assert json.loads((tmp_path / "build" / "bench.json").read_text())["runs"] == []


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    lines = [line for line in as_markdown(FOUND).splitlines() if line.startswith("|")]
    assert len(lines) == 4 * 2 + len(FOUND.runs) + 3
    tables = as_markdown(FOUND).split("\n\n")
    for table in tables:
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) <= 1, table


def test_a_figure_without_a_valid_run_is_marked() -> None:
    table = speed_table(Found([VOID]))
    assert "1,000 \\*" in table
    assert "No valid run" in table
    assert "\\*" not in speed_table(Found([RUN]))


def test_the_screen_shows_the_ratio_and_the_latency() -> None:
    console = Console(width=100, record=True, file=StringIO())
    console.print(screen_table(FOUND))
    text = console.export_text()
    assert "10.00 (10.00 to 10.00)" in text
    assert "60" in text


def test_the_page_keeps_its_text_and_gets_new_tables(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\nText.\n\n{MARK}\n\nold\n")
    write_page(page, FOUND)
    write_page(page, FOUND)
    text = page.read_text()
    assert text.startswith(f"# Title\n\nText.\n\n{MARK}\n\nMeasured on")
    assert text.count("## Speed") == 1
    assert "old" not in text
