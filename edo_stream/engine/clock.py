"""The one place where the engine reads a clock."""

import time


def now_ms() -> int:
    """Wall clock, epoch ms; a task reads it once per batch and passes it on."""
    return time.time_ns() // 1_000_000
