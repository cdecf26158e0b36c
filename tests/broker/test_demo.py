"""The demo, a short one, as a newcomer runs it."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that PostgreSQL's own user may pass, as pytest's may not be."""
    directory = Path(tempfile.mkdtemp(prefix="edo-demo-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def test_the_demo_accounts_for_everything_and_leaves_nothing_running(open_dir: Path) -> None:
    directory = open_dir / "demo"
    command = [sys.executable, "-m", "load.demo"]
    done = subprocess.run(
        [*command, "--events", "15000", "--directory", str(directory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "PASS" in done.stdout
    assert "WRONG" not in done.stdout
    for what in ("compensated", "complete", "fallback"):
        assert what in done.stdout
    assert [] == [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if any(str(directory) in word for word in process.info["cmdline"] or ())
    ]
