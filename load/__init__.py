"""Bursts of events for a broker, planned from a seed, with what must come out of them."""
