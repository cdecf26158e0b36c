"""A chaos run that is told to end leaves nothing mounted; one that is killed leaves it to the next.

``mount`` and ``umount`` are stand-ins that write a table of their own, so no rights are needed;
where the system allows it, real ones are tried as well.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from load import disks
from load.disks import own_disk, remove_left

MOUNT = """#!/bin/sh
# mount -t tmpfs -o size=N NAME DIRECTORY
echo "$5 $6 tmpfs rw 0 0" >> "$TABLE"
"""
UMOUNT = """#!/bin/sh
# umount -l DIRECTORY: the last that was mounted there
grep -v " $2 " "$TABLE" > "$TABLE.new"
mv "$TABLE.new" "$TABLE"
"""
RUN = """
import asyncio, sys, time
from contextlib import ExitStack
from pathlib import Path
from load import disks
from load.ending import ends_in_order

disks.mount_table = Path(sys.argv[1])

async def endure():
    print("running", flush=True)
    await asyncio.to_thread(input)

with ends_in_order(), ExitStack() as stack:
    for name in ("kafka", "worker-0/state"):
        disks.own_disk(Path(sys.argv[2], name), 1 << 20, stack)
    stack.callback(print, "closed", flush=True)
    if sys.argv[3] == "loop":
        asyncio.run(endure())
    print("running", flush=True)
    time.sleep(3600)
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is mounted, as the stand-ins tell it; things of others are there already."""
    tools, table = tmp_path / "tools", tmp_path / "mounts"
    tools.mkdir()
    for name, text in (("mount", MOUNT), ("umount", UMOUNT)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    table.write_text(OTHERS)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("TABLE", str(table))
    monkeypatch.setattr(disks, "mount_table", table)
    return table


OTHERS = """\
tmpfs /run tmpfs rw 0 0
edo-chaos-1x /else tmpfs rw 0 0
edo-chaos-2147483647 /disk ext4 rw 0 0

"""


@pytest.fixture
def gone() -> int:
    """Number of a process that was there, and is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


class Chaos:
    """A run in a process of its own."""

    def __init__(self, table: Path, directory: Path, where: str) -> None:
        command = [sys.executable, "-c", RUN, str(table), str(directory), where]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert self.process.stdout is not None
        assert "running\n" == self.process.stdout.readline()

    def end(self, *numbers: signal.Signals) -> tuple[int, str, str]:
        for number in numbers:
            self.process.send_signal(number)
        out, err = self.process.communicate("\n", timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def started(table: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Chaos]:
    run = Chaos(table, tmp_path / "chaos", getattr(request, "param", "sleep"))
    assert 2 == table.read_text().count(f"edo-chaos-{run.process.pid} ")
    yield run
    run.process.kill()
    run.process.communicate()


@pytest.mark.parametrize("started", ["sleep", "loop"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_unmounts_what_it_has_mounted(
    table: Path, started: Chaos, number: signal.Signals
) -> None:
    code, out, err = started.end(number)
    assert (128 + number, "closed\n") == (code, out), err
    assert err.startswith(f"{number.name}: the harm under way ends, then all is stopped\n")
    assert table.read_text() == OTHERS


def test_what_closes_is_not_cut_short_by_another_signal(table: Path, started: Chaos) -> None:
    code, out, _ = started.end(*[signal.SIGTERM] * 3, signal.SIGINT)
    assert code in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert "closed\n" == out
    assert table.read_text() == OTHERS


def test_the_next_run_unmounts_what_one_that_was_killed_has_left(
    table: Path, tmp_path: Path, started: Chaos
) -> None:
    started.end(signal.SIGKILL)
    assert 2 == table.read_text().count("edo-chaos-") - OTHERS.count("edo-chaos-")
    told: list[str] = []
    remove_left(tmp_path / "elsewhere", told.append)
    assert table.read_text() == OTHERS
    left = [f"{tmp_path}/chaos/{name}" for name in ("worker-0/state", "kafka")]
    assert [f"{one}, left by an earlier run: unmounted" for one in left] == told


def test_a_run_that_goes_on_keeps_its_own(table: Path, tmp_path: Path, started: Chaos) -> None:
    told: list[str] = []
    remove_left(tmp_path / "elsewhere", told.append)
    assert [] == told
    assert 2 == table.read_text().count(f"edo-chaos-{started.process.pid} ")


def test_what_is_in_the_directory_of_a_run_is_removed_whoever_has_its_number_now(
    table: Path, tmp_path: Path
) -> None:
    left = tmp_path / "chaos" / "with space"
    line = f"edo-chaos-{os.getpid()} {left} tmpfs rw 0 0\n"
    table.write_text(OTHERS + line.replace("with space", "with\\040space"))
    told: list[str] = []
    remove_left(tmp_path / "chaos", told.append)
    assert [f"{left}, left by an earlier run: unmounted"] == told


def test_what_cannot_be_unmounted_is_told(table: Path, tmp_path: Path, gone: int) -> None:
    (tmp_path / "tools" / "umount").write_text("#!/bin/sh\necho 'must be superuser' >&2\nexit 32\n")
    table.write_text(f"edo-chaos-{gone} /left tmpfs rw 0 0\n")
    told: list[str] = []
    remove_left(tmp_path, told.append)
    assert ["/left, left by an earlier run: cannot be unmounted: must be superuser"] == told


def test_where_nothing_can_be_mounted_nothing_is_unmounted(table: Path, tmp_path: Path) -> None:
    (tmp_path / "tools" / "mount").write_text("#!/bin/sh\nexit 32\n")
    (tmp_path / "tools" / "umount").write_text(f"#!/bin/sh\necho called >> {tmp_path}/calls\n")
    with ExitStack() as stack:
        own_disk(tmp_path / "kafka", 1 << 20, stack)
    assert (tmp_path / "kafka").is_dir()
    assert not (tmp_path / "calls").exists()
    assert table.read_text() == OTHERS


def test_a_real_file_system_is_small_and_goes_with_the_run(tmp_path: Path) -> None:
    directory = tmp_path / "kafka"
    with ExitStack() as stack:
        own_disk(directory, 1 << 20, stack)
        if not directory.is_mount():
            pytest.skip("mounting is not allowed here")
        with pytest.raises(OSError, match="No space left"):
            (directory / "filler").write_bytes(bytes(2 << 20))
    assert not directory.is_mount()
