"""No orphans, no root needed, and only our own processes are ended."""

import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from edo_stream.local.kafka import LocalKafka
from edo_stream.local.process import end, find
from edo_stream.local.supervisor import RECORD

_HOLD = """
import sys, time
from pathlib import Path
from edo_stream.local.kafka import LocalKafka
from edo_stream.local.postgres import LocalPostgres
base = Path(sys.argv[1])
with LocalPostgres(base / "postgres") as postgres, LocalKafka(base / "kafka") as kafka:
    print(postgres.pid, kafka.pid, flush=True)
    time.sleep(600 if sys.argv[2] == "hold" else 0)
"""


def test_services_end_with_a_killed_starter(
    open_dir: Path, assert_gone: Callable[..., None]
) -> None:
    with _start(open_dir, "hold") as starter:
        pids = _pids(starter)
        assert all(psutil.pid_exists(pid) for pid in pids)
        starter.kill()
        assert_gone(*pids)


def test_an_ordinary_user_can_run_them(open_dir: Path, assert_gone: Callable[..., None]) -> None:
    with _start(open_dir, "leave", _as_ordinary_user(open_dir)) as starter:
        pids = _pids(starter)
        assert starter.wait(120) == 0
    assert_gone(*pids)


def _as_ordinary_user(directory: Path) -> tuple[str, ...]:
    """Give what comes before a command so that it runs without root's rights."""
    if os.geteuid() != 0:
        return ()
    nobody = pwd.getpwnam("nobody")
    # In a namespace of its own that user may read what root owns, such as the interpreter.
    prefix = ("unshare", "--user", f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}")
    if shutil.which("unshare") is None:
        pytest.skip("no unshare to give up root with")
    probe = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"root cannot be given up here: {probe.stderr.strip()}")
    return prefix


def test_a_later_process_of_the_same_number_is_left_alone(tmp_path: Path) -> None:
    kafka = LocalKafka(tmp_path)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        _write_record(kafka.directory, other.pid)
        found = find(kafka.directory)
        assert found is not None
        assert not found.is_running
        assert not end(kafka.directory, timeout_s=1)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def _write_record(directory: Path, pid: int) -> None:
    identity = {"pid": pid, "created_s": psutil.Process(pid).create_time() - 3600}
    record = {
        "service": "Kafka",
        "address": "127.0.0.1:9092",
        "log": "log.txt",
        "is_detached": True,
        "details": {},
        "supervisor": identity,
        "process": identity,
    }
    (directory / RECORD).write_text(json.dumps(record))


def _start(directory: Path, mode: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", _HOLD, str(directory), mode],
        stdout=subprocess.PIPE,
        text=True,
    )


def _pids(starter: subprocess.Popen[str]) -> list[int]:
    assert starter.stdout is not None
    line = starter.stdout.readline()
    assert line, "the starter died"
    return [int(pid) for pid in line.split()]
