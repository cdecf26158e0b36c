"""Where a program finds its job; all programs are told by the same variables."""

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """Read ``input``, drop duplicates, restore each key's order, write each event once."""

    broker: str
    input: str
    output: str
    app: str
    """Name of the consumer group, and beginning of all other names."""
    directory: Path
    session_timeout_ms: int
    partitions: int = 4

    def note_start(self) -> None:
        """Tell the bench that the first record is being processed."""
        (self.directory / "started").write_text(str(time.time_ns() // 1_000_000))

    @property
    def changelog(self) -> str:
        """Of programs that keep one by hand."""
        return f"{self.app}-changelog"


def read_job() -> Job:
    """Read the job from the environment."""
    return Job(
        broker=os.environ["BENCH_BROKER"],
        input=os.environ["BENCH_INPUT"],
        output=os.environ["BENCH_OUTPUT"],
        app=os.environ["BENCH_APP"],
        directory=Path(os.environ["BENCH_DIRECTORY"]),
        session_timeout_ms=int(os.environ["BENCH_SESSION_TIMEOUT_MS"]),
    )


def option(name: str, otherwise: str) -> str:
    """Read a setting of one program: what its variants differ in."""
    return os.environ.get(f"BENCH_{name}", otherwise)
