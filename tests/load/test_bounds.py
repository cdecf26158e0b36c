"""What the bounds are measured with: events as said, rows counted, figures against bars."""

from pathlib import Path

import msgspec
import pytest

from edo_stream.core.task import TASK_KEY, TaskRow
from edo_stream.engine.admin import Wanted
from edo_stream.engine.store import RocksDisk
from load.bounds import measures, restart, retries
from load.bounds.figures import Bound
from load.bounds.measures import names_of
from load.bounds.place import BoundError


@pytest.mark.parametrize(("value", "is_kept"), [(2.0, True), (2.1, False)])
def test_a_bound_is_kept_up_to_its_bar(value: float, is_kept: bool) -> None:
    assert is_kept == Bound("idle", value, 2, "%", "").is_kept


def test_all_are_measured_unless_some_are_named() -> None:
    assert names_of([]) == list(measures.MEASURES)
    assert names_of(["idle"]) == ["idle"]
    with pytest.raises(BoundError, match="no such bound: idel"):
        names_of(["idel"])


def test_ids_are_as_long_as_said_and_none_comes_twice() -> None:
    ids = [dict(planned.headers)["ce_id"] for planned in measures._unique(1_000, None)]
    assert {len(id_) for id_ in ids} == {40}
    assert len(set(ids)) == 1_000


def test_a_rate_spreads_the_events_over_time() -> None:
    assert [planned.due_s for planned in measures._unique(3, 10)] == [0.0, 0.1, 0.2]


def test_every_key_begins_with_its_second_event() -> None:
    planned = list(measures._second_numbers(3))
    assert 3 == len({one.key for one in planned})
    assert {b"2"} == {dict(one.headers)["ce_sequence"] for one in planned}


def test_only_changelogs_are_kept_in_proportion_to_the_time_to_live() -> None:
    changelog = Wanted("a-b-ids-changelog", 4, config={"segment.ms": "60000", "retention.ms": "1"})
    other = Wanted("a.b", 4, config={"segment.ms": "60000"})
    assert measures._kept_in_proportion(changelog).config == {
        "segment.ms": "7500",
        "retention.ms": "1",
    }
    assert measures._kept_in_proportion(other) == other


def test_live_bytes_are_those_of_rows_that_still_count(tmp_path: Path) -> None:
    state, ids = RocksDisk(tmp_path / "a-state-0"), RocksDisk(tmp_path / "a-ids-0")
    task = msgspec.msgpack.encode(TaskRow(stream_ms=50_000))
    state.write({TASK_KEY: task, b"gone": b"1"}, 1, 0)
    state.write({b"gone": None}, 2, 0)
    ids.write({b"d-alive": b"\0\0\0\x33", b"d-expired": b"\0\0\0\x32"}, 1, 0)
    for disk in (state, ids):
        disk.close()
    assert len(TASK_KEY) + len(task) + len(b"d-alive") + 4 == measures._live_bytes(tmp_path)


def test_runs_are_read_from_the_ledger_of_the_handler(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    assert retries._runs(ledger) == {}
    ledger.write_text("a 1700000000000\nb 1700000000005\n")
    assert retries._runs(ledger) == {"a": 1_700_000_000_000, "b": 1_700_000_000_005}


def test_the_first_result_after_a_time_is_the_one_that_came_after_it() -> None:
    arrivals = restart.Arrivals("127.0.0.1:1", "a.b.c")
    arrivals._seen_s += [1.0, 2.0, 3.5]
    assert 2.0 == arrivals.first_after(1.0)
    assert 3.5 == arrivals.first_after(2.1)


def test_events_of_different_kills_do_not_repeat_each_other() -> None:
    planned = [*restart._events("a", 3, 10), *restart._events("b", 3, None)]
    assert 6 == len({dict(one.headers)["ce_id"] for one in planned})
    assert [0.0, 0.1, 0.2, 0.0, 0.0, 0.0] == [one.due_s for one in planned]
