"""Which disks there are, and which are of no use any more."""

import os
from pathlib import Path

from edo_stream.engine.disks import disks_in, remove_abandoned
from edo_stream.engine.restore import TOMBSTONES_KEPT_MS
from tests.engine.test_assignor import PLANS

NOW_MS = 1_700_000_000_000


def test_a_disk_without_the_others_of_its_task_is_none(tmp_path: Path) -> None:
    for name in ("orders-state-1", "orders-ids-1", "orders-state-2", "customers-ids-0"):
        (tmp_path / name).mkdir()
    assert disks_in(tmp_path, PLANS.values()) == {"placed": [1], "paid": [1]}
    assert disks_in(tmp_path / "nowhere", PLANS.values()) == {}


def disk(path: Path, written_ms: int) -> Path:
    """A disk with two files, the log written last."""
    path.mkdir()
    for name, at_ms in (("000004.sst", written_ms - 86_400_000), ("000009.log", written_ms)):
        (path / name).touch()
        os.utime(path / name, ns=(at_ms * 1_000_000, at_ms * 1_000_000))
    os.utime(path, ns=(0, 0))
    return path


def test_disks_that_a_restore_would_empty_are_removed(tmp_path: Path) -> None:
    kept = disk(tmp_path / "orders-state-1", NOW_MS - TOMBSTONES_KEPT_MS)
    disk(tmp_path / "orders-state-2", NOW_MS - TOMBSTONES_KEPT_MS - 1)
    remove_abandoned(tmp_path, NOW_MS)
    assert list(tmp_path.iterdir()) == [kept]
    remove_abandoned(tmp_path / "nowhere", NOW_MS)
