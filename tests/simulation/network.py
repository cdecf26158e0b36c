"""What the package has for tests of flows is what the simulation is made of: its network."""

from edo_stream.testing.network import Network

__all__ = ["Network"]
