"""Chaos of the act plane: executors that fail, hang and crash, on workers that are hurt."""
