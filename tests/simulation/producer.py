"""What the package has for tests of flows is what the simulation is made of: its producer."""

from edo_stream.testing.producer import Landed, Machinery, SimulatedBatch, SimulatedProducer

__all__ = ["Landed", "Machinery", "SimulatedBatch", "SimulatedProducer"]
