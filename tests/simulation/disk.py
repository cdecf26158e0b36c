"""What the package has for tests of flows is what the simulation is made of: its disk."""

from edo_stream.testing.disk import OnWrite, Platter, SimulatedDisk

__all__ = ["OnWrite", "Platter", "SimulatedDisk"]
