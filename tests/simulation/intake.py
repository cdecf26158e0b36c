"""What the package has for tests of flows is what the simulation is made of: its intake."""

from edo_stream.testing.intake import SimulatedChangelog, SimulatedFollower, SimulatedIntake

__all__ = ["SimulatedChangelog", "SimulatedFollower", "SimulatedIntake"]
