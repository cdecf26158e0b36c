"""Small file systems of a run's own, to be filled: they are gone when it ends, however it ends.

Each is a tmpfs whose name has the process that mounted it. A run that is killed -9 unmounts
nothing; the next one finds by their names what such runs have left, and leaves all else alone.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

_NAME: Final = "edo-chaos-"
_OCTAL: Final = re.compile(r"\\([0-7]{3})")

#: What is mounted, as this process sees it.
mount_table = Path("/proc/self/mounts")


class Disk(NamedTuple):
    """A file system of a run."""

    directory: Path
    owner: int
    """Process that has mounted it."""


def own_disk(directory: Path, size_bytes: int, stack: ExitStack) -> None:
    """Give a directory a small file system of its own, where the system allows that."""
    directory.mkdir(parents=True, exist_ok=True)
    # First, so that no moment is left at which it is mounted and nobody will unmount it.
    stack.callback(_unmount_own, directory)
    name = f"{_NAME}{os.getpid()}"
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", name, str(directory)]
    subprocess.run(command, capture_output=True, check=False)  # noqa: S603


def remove_left(directory: Path, report: Callable[[str], None]) -> None:
    """Unmount what runs have left that are no more, and all that is in a directory of this one."""
    inside = directory.resolve()
    for disk in reversed([*_disks()]):
        if disk.directory.is_relative_to(inside) or not _is_alive(disk.owner):
            why = _unmount(disk.directory)
            told = "unmounted" if why is None else f"cannot be unmounted: {why}"
            report(f"{disk.directory}, left by an earlier run: {told}")


def _unmount_own(directory: Path) -> None:
    if Disk(directory, os.getpid()) in _disks():
        _unmount(directory)


def _unmount(directory: Path) -> str | None:
    """Unmount it, even while somebody is in it; why not, if it cannot be."""
    command = ["umount", "-l", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return None if done.returncode == 0 else done.stderr.strip() or f"exit {done.returncode}"


def _disks() -> Iterator[Disk]:
    """Those of all runs, the first that was mounted first."""
    try:
        lines = mount_table.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        # Not Linux: nothing of ours is mounted.
        return
    for line in lines:
        name, directory, kind, *_ = [*line.split(), "", "", ""]
        owner = name.removeprefix(_NAME)
        if kind == "tmpfs" and name.startswith(_NAME) and owner.isdecimal():
            yield Disk(Path(_OCTAL.sub(_character, directory)), int(owner))


def _character(found: re.Match[str]) -> str:
    return chr(int(found[1], 8))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
