"""What the package has for tests of flows is what the simulation is made of: its faults."""

from edo_stream.testing.faults import Faults

__all__ = ["Faults"]
