"""What the machine did between two moments: the processes measured, this one, and all others."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

OTHER_CORES_MAX: Final = 0.3
"""Work of others, in cores, beyond which a run says nothing about speed."""
_LOOK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Reading:
    """CPU time used up to a moment, user and system, in seconds."""

    at_ms: int
    busy_s: float
    """Of the whole machine; what a hypervisor took away counts as work of others."""
    bench_s: float
    worker_s: float
    broker_s: float


@dataclass(frozen=True, slots=True)
class Usage:
    """The same between two moments."""

    wall_s: float
    worker_s: float
    broker_s: float
    other_cores: float

    @property
    def is_void(self) -> bool:
        """Whether others worked too much beside it."""
        return self.other_cores > OTHER_CORES_MAX


def read_machine(worker_pid: int | None, broker_pid: int) -> Reading:
    """Read the clocks of now; a process that is gone has used nothing."""
    times = psutil.cpu_times()
    return Reading(
        at_ms=now_ms(),
        busy_s=times.user + times.nice + times.system + times.irq + times.softirq + times.steal,
        bench_s=_used_s(os.getpid()),
        worker_s=0.0 if worker_pid is None else _used_s(worker_pid),
        broker_s=_used_s(broker_pid),
    )


def usage_between(first: Reading, last: Reading) -> Usage:
    """What was used between two readings of the same processes."""
    wall_s = (last.at_ms - first.at_ms) / 1_000
    worker_s = last.worker_s - first.worker_s
    broker_s = last.broker_s - first.broker_s
    measured_s = worker_s + broker_s + last.bench_s - first.bench_s
    other_s = last.busy_s - first.busy_s - measured_s
    return Usage(wall_s, worker_s, broker_s, max(0.0, other_s / wall_s) if wall_s else 0.0)


def wait_until_quiet(broker_pid: int, patience_s: float, tell: Callable[[str], None]) -> None:
    """Wait until others leave the machine alone, or until the patience is over."""
    deadline_s = time.monotonic() + patience_s
    while time.monotonic() < deadline_s:
        before = read_machine(None, broker_pid)
        time.sleep(_LOOK_S)
        other_cores = usage_between(before, read_machine(None, broker_pid)).other_cores
        if other_cores <= OTHER_CORES_MAX:
            return
        tell(f"waiting for others, who use {other_cores:.1f} cores")


def peak_mb(pid: int) -> float:
    """Largest resident size that a process ever had (VmHWM); 0 when it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1_024
    return 0.0


def now_ms() -> int:
    """Wall clock, as records carry it."""
    return time.time_ns() // 1_000_000


def _used_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system
