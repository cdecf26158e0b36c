"""The effects ledger, and what is judged by it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from load.bench.actions.contest import BY_KEY, FAUST, ONE_BY_ONE, PROGRAMS, Feat, Load, judge
from load.bench.actions.report import BEGIN, END, Found, as_markdown, write_json, write_page
from load.bench.actions.work import FLOW, jobs
from load.bench.machine import Reading
from load.effects import Ledger, Line, Moment, Receiver, app, out_of_order, read_ledger, tally

READINGS = (Reading(0, 0.0, 0.0, 0.0, 0.0), Reading(2_000, 1.5, 0.0, 1.0, 0.5))


def line(moment: Moment, number: int, attempt: int = 1, at_ms: float = 0.0, key: str = "a") -> Line:
    return Line(moment, FLOW, str(number), f"key-{number}", key, number, attempt, at_ms, 1)


def ran(*numbers: int, key: str = "a") -> list[Line]:
    moments = (Moment.BEGAN, Moment.EFFECT)
    return [line(moment, number, key=key) for number in numbers for moment in moments]


def test_lines_are_read_as_they_were_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    for one in ran(0, 1):
        ledger.write(one)
    ledger.close()

    assert ran(0, 1) == read_ledger(tmp_path / "ledger")
    assert [] == read_ledger(tmp_path / "none")


def test_a_receiver_with_a_memory_does_it_once() -> None:
    receiver = Receiver()

    assert [True, False, True] == [receiver.apply(key) for key in ("a", "a", "b")]


def test_runs_and_effects_are_counted_beside_what_an_idempotent_receiver_does() -> None:
    # Command 0 runs and dies, runs again with effect, and dies before that is recorded.
    lines = [line(Moment.BEGAN, 0), *ran(0), *ran(0), *ran(1)]

    one = tally(lines)[FLOW]

    assert (2, 4, 2) == (one.commands, one.runs, one.repeated_runs)
    assert (3, 1, 2) == (one.effects, one.repeated_effects, one.effects_by_key)
    assert {3: 1, 1: 1} == one.runs_of


def test_a_ledger_is_told_command_by_command(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    for one in [*ran(0), *ran(0), *ran(1)]:
        ledger.write(one)
    ledger.close()
    (tmp_path / "other").write_text("no ledger")

    told = CliRunner().invoke(app, [str(tmp_path / "ledger"), "--jsonl"])
    refused = CliRunner().invoke(app, [str(tmp_path / "other")])

    first, second = (json.loads(text) for text in told.output.splitlines())
    assert ("0", 2, 2, 1) == tuple(
        first[name] for name in ("command", "runs", "effects", "effects_by_key")
    )
    assert ("1", 1) == (second["command"], second["attempts"])
    assert 2 == refused.exit_code


def test_the_first_effects_of_a_key_are_in_order_whatever_is_repeated() -> None:
    assert [] == out_of_order([*ran(0, 1, 0, 2), *ran(1, 0, key="b")[2:]])
    assert [1] == [one.number for one in out_of_order(ran(0, 2, 1, 3))]


def test_a_run_is_judged_by_its_ledger() -> None:
    lines = [
        line(Moment.BEGAN, 0, at_ms=1_000.0),
        line(Moment.BEGAN, 1, at_ms=1_100.0),
        line(Moment.EFFECT, 1, at_ms=1_200.0),
        line(Moment.BEGAN, 0, attempt=2, at_ms=2_050.0),
        line(Moment.EFFECT, 0, attempt=2, at_ms=2_100.0),
        line(Moment.BEGAN, 2, attempt=2, at_ms=2_200.0, key="b"),
    ]
    dues_ms = {("0", 2): 2_000.0, ("2", 2): 2_300.0}

    feat = judge(PROGRAMS[BY_KEY], Load(3, 2, True), lines, READINGS, dues_ms, 3_000.0)

    assert (2, 1, 0) == (feat.done, feat.out_of_order, feat.repeated)
    assert (2, 1, 50.0) == (feat.retries, feat.early, feat.late_max_ms)
    assert (2.0, 1.0) == (feat.duration_s, feat.per_s)
    assert not feat.is_exact


def test_jobs_fail_only_where_they_are_to() -> None:
    assert not any(job.fails for job in jobs(1_000, 10, is_failing=False))
    assert {0, 1, 2} == {job.fails for job in jobs(1_000, 10, is_failing=True)}
    assert [job.wait_ms for job in jobs(9, 3, True)] == [job.wait_ms for job in jobs(9, 3, False)]


def feat(program: str, duration_s: float, done: int = 100) -> Feat:
    rest = (None, None, None, 50.0, 0.1)
    return Feat(program, 100, False, done, duration_s, 0, 0, 0, 0, *rest)


def test_the_bar_is_a_ratio_of_runs_of_the_same_round() -> None:
    fast = Found([feat(BY_KEY, 1.0), feat(ONE_BY_ONE, 12.0), feat(FAUST, 8.0)])
    slow = Found([feat(BY_KEY, 1.0), feat(ONE_BY_ONE, 9.0)])
    incomplete = Found([feat(BY_KEY, 1.0, done=99)])

    assert [] == fast.findings
    assert {"by_key_to_one_by_one": 12.0, "by_key_to_faust": 8.0} == fast.as_dict()["ratio"]
    assert ["only 9.0 times as fast by key as one at a time"] == slow.findings
    assert 1 == len(incomplete.findings)


def test_the_report_and_the_page_keep_what_others_wrote(tmp_path: Path) -> None:
    report, page = tmp_path / "bench.json", tmp_path / "page.md"
    report.write_text('{"runs": [1]}')
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    found = Found([feat(BY_KEY, 1.0), feat(ONE_BY_ONE, 12.0)])

    write_json(report, found)
    write_page(page, found)

    assert '{\n "runs": [\n  1\n ],\n "actions"' in report.read_text()
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith(f"{END}\nafter\n")
    assert "12.0 times" in page.read_text()
    assert "old" not in page.read_text()


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_tables_name_every_program_that_ran(program: str) -> None:
    assert PROGRAMS[program].title in as_markdown(Found([feat(program, 1.0)]))
