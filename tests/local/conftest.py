"""Directories and ways to look at processes, for tests with real services."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

_GONE_TIMEOUT_S = 30


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that other users may pass, as pytest's own may not."""
    directory = Path(tempfile.mkdtemp(prefix="edo-local-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def assert_gone(*pids: int) -> None:
    processes = []
    for pid in pids:
        try:
            processes.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(processes, _GONE_TIMEOUT_S)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


@pytest.fixture(name="assert_gone")
def _assert_gone() -> object:
    return assert_gone
