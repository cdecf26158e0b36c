"""What the package has for tests of flows is what the simulation is made of: its broker."""

from edo_stream.testing.broker import Broker, Entry, Headers, Log, NewRecord, ProducerState, Txn

__all__ = ["Broker", "Entry", "Headers", "Log", "NewRecord", "ProducerState", "Txn"]
