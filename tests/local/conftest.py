"""Directories and ways to look at processes, for tests with real services."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from edo_stream.local.process import wait_gone

_GONE_TIMEOUT_S = 120


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that other users may pass, as pytest's own may not."""
    directory = Path(tempfile.mkdtemp(prefix="edo-local-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def assert_gone() -> Callable[..., None]:
    def check(*pids: int) -> None:
        processes = []
        for pid in pids:
            with suppress(psutil.NoSuchProcess):
                processes.append(psutil.Process(pid))
        assert wait_gone(processes, _GONE_TIMEOUT_S) == []

    return check
