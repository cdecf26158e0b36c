"""What the package has for tests of flows is what the simulation is made of: its loop."""

from edo_stream.testing.loop import (
    OUTSIDE,
    START_MS,
    DeadlockError,
    Killed,
    LivelockError,
    Process,
    VirtualLoop,
)

__all__ = [
    "OUTSIDE",
    "START_MS",
    "DeadlockError",
    "Killed",
    "LivelockError",
    "Process",
    "VirtualLoop",
]
