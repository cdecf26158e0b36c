"""The demo, a short one, as a newcomer runs it."""

import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def test_the_demo_accounts_for_everything_and_leaves_nothing_running(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    command = [sys.executable, "-m", "load.demo"]
    done = subprocess.run(
        [*command, "--events", "15000", "--directory", str(directory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
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
