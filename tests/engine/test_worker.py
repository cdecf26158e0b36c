"""What the worker's composition adds to its parts."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edo_stream.engine import worker
from edo_stream.engine.store import RocksDisk


class LeftError(Exception):
    """Stands for the end of the process."""


def test_a_disk_that_another_process_has_ends_the_worker_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def leave(status: int) -> None:
        raise LeftError(status)

    monkeypatch.setattr(worker.os, "_exit", leave)
    app: Any = SimpleNamespace(conf=SimpleNamespace(tabledir=tmp_path))
    held = RocksDisk(tmp_path / "orders-state-3")

    with caplog.at_level(logging.CRITICAL), pytest.raises(LeftError, match="78"):
        worker._open_disk(app)("orders-state", 3)

    assert f"{tmp_path / 'orders-state-3'} is in use by another process" in caplog.text
    assert "EDO_DATA" in caplog.text
    held.close()


def test_a_free_disk_is_opened_under_the_name_of_its_table_and_partition(tmp_path: Path) -> None:
    app: Any = SimpleNamespace(conf=SimpleNamespace(tabledir=tmp_path))
    disk = worker._open_disk(app)("orders-state", 3)
    disk.write({b"a": b"1"}, 0, 0)
    disk.close()
    assert (tmp_path / "orders-state-3").is_dir()
