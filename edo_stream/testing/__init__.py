"""Flows in tests: the engine of the workers on a broker in memory, in virtual time.

:mod:`.world` is what a test uses, and the fixture ``edo_flows`` of :mod:`.plugin` gives one. What
it is made of (:mod:`.loop`, :mod:`.broker`, :mod:`.network`, :mod:`.producer`, :mod:`.intake`,
:mod:`.disk`, :mod:`.faults`) is what the project's own simulation is made of: Kafka's rules of
transactions, fencing and offsets, without a network and without waiting.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edo_stream.testing.world import FlowWorld, Seen

__all__ = ["FlowWorld", "Seen"]


def __getattr__(name: str) -> Any:
    """Import the world when it is asked for: pytest imports this package at every start."""
    if name not in __all__:
        raise AttributeError(name)
    from edo_stream.testing import world  # noqa: PLC0415 - see above

    return getattr(world, name)
