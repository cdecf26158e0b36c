"""Disks that a worker has in its data directory, open or not, and those that are of no use."""

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from edo_stream.engine.assignment import GroupPlan
from edo_stream.engine.restore import TOMBSTONES_KEPT_MS

log = logging.getLogger(__name__)


def disks_in(folder: Path, plans: Iterable[GroupPlan]) -> dict[str, list[int]]:
    """Partition numbers whose tables are all in a folder, by source topic."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return {
        topic: numbers
        for plan in plans
        if (
            numbers := [
                number
                for number in range(plan.partitions)
                if names.issuperset(f"{table.name}-{number}" for table in plan.tables)
            ]
        )
        for topic in plan.spec.sources
    }


def remove_abandoned(folder: Path, now_ms: int) -> None:
    """Remove disks that nobody has written for so long that a restore would empty them first.

    Partitions come and go; without this every worker would end up with the disks of all.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and now_ms - _written_ms(path) > TOMBSTONES_KEPT_MS:
            log.info("disk removed, not written for more than 7 days: %s", path)
            shutil.rmtree(path, ignore_errors=True)


def _written_ms(path: Path) -> int:
    """When any file of a disk was written last: each transaction writes one."""
    return max(file.stat().st_mtime_ns for file in (path, *path.iterdir())) // 1_000_000
