"""Files of ``schedules/``: what they lead to, and every mistake with its line."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from edo_stream.cli.environment import CommandError
from edo_stream.cli.schedule import app
from edo_stream.core.ticker import OnMissed
from edo_stream.registry import RegistryError, load
from edo_stream.schedules.folder import Schedule, load_schedules

CONTRACT = """\
name: shop.report.due
owner: team-reports
description: A report is due.
codec: {codec}
partitions: 4
emit: {{topic: shop.report.accepted}}
"""
SCHEDULE = """\
name: report-nightly
owner: team-reports
description: The nightly report is due.
topic: shop.report.due
"""


def load_all(root: Path, text: str, codec: str = "cloudevents") -> dict[str, Schedule]:
    contract = root / "topics" / "shop.report.due" / "contract.yaml"
    contract.parent.mkdir(parents=True)
    contract.write_text(CONTRACT.format(codec=codec), encoding="utf-8")
    folder = root / "schedules"
    folder.mkdir()
    (folder / "report-nightly.yaml").write_text(text, encoding="utf-8")
    (folder / "holidays.txt").write_text("# closed\n2026-12-24  # Christmas Eve\n12-25\n")
    return load_schedules(folder, load(root / "topics").entries)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_a_folder_that_is_not_there_has_no_schedules(tmp_path: Path) -> None:
    assert {} == load_schedules(tmp_path / "schedules", {})


def test_a_file_becomes_a_schedule(tmp_path: Path) -> None:
    more = """\
cron: "0 9 * * *"
timezone: Europe/Berlin
calendar: {only: business-days, except: [holidays.txt], roll: forward}
catch_up: {policy: all, window: 7d, late_after: 5m}
start: 2026-01-01T00:00:00Z
type: report.due
data: {report: sales}
"""
    ticks = load_all(tmp_path, SCHEDULE + more)["report-nightly"].ticks(partitions=4)
    assert ("shop.report.due", 4, "report.due") == (ticks.topic, ticks.partitions, ticks.event_type)
    assert (OnMissed.ALL, 7 * 86_400_000, 300_000) == (
        ticks.catch_up.on_missed,
        ticks.catch_up.window_ms,
        ticks.catch_up.late_after_ms,
    )
    assert (at("2026-01-01T00:00"), {"report": "sales"}) == (ticks.start_ms, ticks.data)
    # Wednesday 23; 24 and 25 are closed, then the weekend; 28 is a Monday, which has its own.
    due_ms = ticks.next_after_ms(at("2026-12-23T08:00"))
    assert at("2026-12-28T08:00") == due_ms
    assert "2026-12-28T09:00:00+01:00" == ticks.local_time(due_ms)


def test_an_interval_is_counted_from_its_anchor(tmp_path: Path) -> None:
    more = "every: 1h30m\nanchor: 2026-01-01T00:05:00Z\n"
    ticks = load_all(tmp_path, SCHEDULE + more)["report-nightly"].ticks(partitions=4)
    assert at("2026-01-01T01:35") == ticks.next_after_ms(at("2026-01-01T00:05"))


@pytest.mark.parametrize(
    ("lines", "line", "said"),
    [
        ("", 1, "write cron"),
        ('cron: "0 9 * * *"\nevery: 5m', 1, "one of them"),
        ('cron: "61 9 * * *"', 5, "minute '61' is not there"),
        ("cron: 5", 5, "is not a cron expression"),
        ("every: soon", 5, "soon is not an interval"),
        ("every: 500ms", 5, "500ms is not an interval of whole seconds: write one such as 15m"),
        ("every: 0s", 5, "an interval is 1s to"),
        ("every: 5m\ndata: {schedule: mine}", 6, "each tick says schedule itself"),
        ("every: 5m\ntimezone: Europe/Berln", 6, "did you mean Europe/Berlin?"),
        ('cron: "0 9 * * *"\nanchor: 2026-01-01T00:00:00Z', 6, "anchor means nothing"),
        ("every: 5m\ncalendar: {roll: back}", 6, "write roll: skip, or cron"),
        ("every: 5m\ncalendar: {except: [christmas]}", 6, "'christmas' is not a day"),
        ("every: 5m\ncalendar: {except: no.txt}", 6, "no.txt cannot be read"),
        ("every: 5m\ncatch_up: {policy: some}", 6, "write 'all', 'latest' or 'none'"),
        ("every: 5m\ncatch_up: {window: 1s}", 6, "late_after is longer than window"),
        ("every: 5m\ntimzone: UTC", 6, "did you mean timezone?"),
        ('cron: "0 0 30 2 *"', 5, "never"),
        ("every: 5m\nstart: soon", 6, "is not a time"),
    ],
)
def test_a_mistake_is_a_finding_with_its_line(
    tmp_path: Path, lines: str, line: int, said: str
) -> None:
    with pytest.raises(RegistryError) as raised:
        load_all(tmp_path, f"{SCHEDULE}{lines}\n")
    (finding,) = raised.value.findings
    assert line == finding.line
    assert said in finding.message


def test_ticks_go_to_a_topic_that_has_a_contract(tmp_path: Path) -> None:
    text = SCHEDULE.replace("shop.report.due", "shop.report.dew") + "every: 5m\n"
    with pytest.raises(RegistryError, match="has no contract"):
        load_all(tmp_path, text)


def test_ticks_are_cloudevents(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="ticks are cloudevents"):
        load_all(tmp_path, f"{SCHEDULE}every: 5m\n", codec="debezium")


def test_a_name_is_that_of_its_file(tmp_path: Path) -> None:
    text = SCHEDULE.replace("report-nightly", "nightly") + "every: 5m\n"
    with pytest.raises(RegistryError, match="is not the name of its file"):
        load_all(tmp_path, text)


def edo(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"EDO_TOPICS": str(root / "topics")})


def test_declared_schedules_are_listed_and_asked_by_name(tmp_path: Path) -> None:
    more = 'cron: "0 9 1 * *"\ncalendar: {only: business-days, roll: forward}\n'
    load_all(tmp_path, SCHEDULE + more)
    (listed,) = json.loads(edo(tmp_path, "list", "--json").stdout)
    assert ("report-nightly", "0 9 1 * *") == (listed["name"], listed["when"])
    assert "report-nightly" in edo(tmp_path, "list").stdout
    asked = edo(
        tmp_path, "next", "--name", "report-nightly", "--from", "2026-01-15", "--count", "2"
    )
    assert ["2026-02-02T09:00:00+00:00", "2026-03-02T09:00:00+00:00"] == asked.stdout.split()
    unknown = edo(tmp_path, "next", "--name", "other").exception
    assert isinstance(unknown, CommandError)
    assert (2, "other is not declared: there are report-nightly") == (unknown.code, str(unknown))
