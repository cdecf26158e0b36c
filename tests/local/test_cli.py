"""`edo local` as a person uses it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edo_stream.local.ports import free_port
from edo_stream.local.stack import Stack


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "local"
    Stack(tmp_path / "local").down(is_wiping=True, report=lambda _line: None)


def test_up_status_logs_down(directory: Path, assert_gone: Callable[..., None]) -> None:
    port = str(free_port())
    assert _edo(directory, "status").returncode == 1
    assert _edo(directory, "up", "--kafka-port", port).returncode == 0
    assert "Already running" in _edo(directory, "up", "--kafka-port", port).stdout
    shown = _edo(directory, "status", "--json")
    (state,) = json.loads(shown.stdout)
    assert (0, f"127.0.0.1:{port}") == (shown.returncode, state["address"])
    assert "Kafka Server started" in _edo(directory, "logs", "kafka", "-n", "100").stdout
    assert _edo(directory, "down", "--wipe").returncode == 0
    assert_gone(state["pid"])
    assert not directory.exists()


def test_a_service_that_died_is_a_finding(
    directory: Path, assert_gone: Callable[..., None]
) -> None:
    _edo(directory, "up", "--kafka-port", str(free_port()))
    (state,) = Stack(directory).states()
    assert state.pid is not None
    os.kill(state.pid, signal.SIGKILL)
    assert_gone(state.pid)
    assert _edo(directory, "status").returncode == 1


def test_ctrl_c_stops_what_runs_in_the_foreground(
    directory: Path, assert_gone: Callable[..., None]
) -> None:
    command = _command(directory, "up", "--foreground", "--kafka-port", str(free_port()))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as foreground:
        assert foreground.stdout is not None
        for line in foreground.stdout:
            if "Ctrl-C" in line:
                break
        (state,) = Stack(directory).states()
        assert state.pid is not None
        # As a terminal does: to the whole group.
        os.killpg(foreground.pid, signal.SIGINT)
        try:
            rest, errors = foreground.communicate(timeout=120)
        finally:
            foreground.kill()  # Without effect on one that has ended.
    assert (foreground.returncode, rest) == (0, "Stopped.\n")
    assert "Traceback" not in errors
    assert_gone(state.pid)


def test_a_taken_port_names_the_option(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = _edo(directory, "up", "--kafka-port", str(port))
    assert done.returncode == 1
    assert f"edo: port {port} on 127.0.0.1, wanted for Kafka, is taken" in done.stderr
    assert "--kafka-port" in done.stderr


def test_wrong_usage_is_exit_code_2(directory: Path) -> None:
    assert _edo(directory, "logs", "zookeeper").returncode == 2


def test_wipe_leaves_what_is_not_ours(directory: Path) -> None:
    foreign = directory / "kafka" / "thesis.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    _edo(directory, "down", "--wipe")
    assert foreign.exists()


def _edo(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(directory, *arguments), capture_output=True, text=True, check=False, timeout=300
    )


def _command(directory: Path, *arguments: str) -> list[str]:
    main = "from edo_stream.cli.main import main; main()"
    return [sys.executable, "-c", main, "local", *arguments, "--dir", str(directory)]
