"""State that another version has left: today's code goes on from it as that one would have."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edo_stream.core.accounts import Account
from edo_stream.core.state import FORMAT, Table
from edo_stream.core.task import TASK_KEY, TaskRow, load_task, refusal
from tests.core.bench import Bench
from tests.core.golden_task import bench, second_half, unhexed, written
from tests.core.memory import Memory

FILES = sorted((Path(__file__).parent / "golden" / "task").glob("*.json"))


def golden(path: Path) -> Mapping[str, Any]:
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def opened(left: Mapping[str, Any]) -> Bench:
    """A task over the changelogs that were left, as after a restore on an empty disk."""
    task = bench()
    task.state_log.records = unhexed(left["state"])
    task.ids_log.records = unhexed(left["ids"])
    task.open()
    return task


def test_there_is_a_file_for_every_format() -> None:
    assert set(range(1, FORMAT + 1)) == {golden(path)["format"] for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_changelogs_of_another_version_restore_to_its_rows(path: Path) -> None:
    left, task = golden(path), opened(golden(path))
    assert unhexed(left["state rows"]) == sorted(task.state_rows.rows.items())
    assert unhexed(left["ids rows"]) == sorted(task.ids_rows.rows.items())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_task_goes_on_from_what_another_version_has_left(path: Path) -> None:
    left = golden(path)
    assert left["then"] == json.loads(json.dumps(second_half(opened(left))))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_accounts_of_another_version_are_read(path: Path) -> None:
    for key, value in golden(path)["accounts"]:
        account = msgspec.json.decode(value, type=Account)
        assert key == f"{account.app}/{account.topic}/{account.partition}"
        assert msgspec.json.encode(account).decode() == value


def test_this_version_leaves_what_the_file_of_its_format_says() -> None:
    (left,) = (golden(path) for path in FILES if golden(path)["format"] == FORMAT)
    assert left == written()


def state(*fields: Any) -> Table:
    memory = Memory()
    memory.write({TASK_KEY: msgspec.msgpack.encode(fields)})
    return Table(memory)


def test_fields_that_were_appended_later_have_their_defaults() -> None:
    """As the first row ever written: without a look for idle keys."""
    row = load_task(state(1, 1_700, {"t": (7,)}))
    assert (row.stream_ms, row.sources["t"].next_offset, row.sources["t"].held) == (1_700, 7, 0)
    assert (row.swept_ms, row.swept_to) == (0, b"")


def test_fields_of_a_later_minor_version_are_passed_over() -> None:
    row = load_task(state(FORMAT, 1_700, {"t": (7, 1, "new")}, 3, b"x", "new"))
    assert (row.sources["t"].held, row.swept_to) == (1, b"x")


def test_a_row_is_of_todays_format_when_it_is_written_again() -> None:
    assert load_task(state(FORMAT - 1, 1_700, {})).version == FORMAT


def test_a_state_of_a_later_format_is_refused_whatever_it_holds() -> None:
    later = state(FORMAT + 1, "something else")
    message = refusal(later)
    assert message is not None
    assert f"format {FORMAT + 1}" in message
    assert f"up to {FORMAT}" in message
    assert load_task(later) == TaskRow()


def test_a_state_of_this_format_or_none_at_all_is_not_refused() -> None:
    assert refusal(state(FORMAT, 1_700, {})) is None
    assert refusal(Table(Memory())) is None
