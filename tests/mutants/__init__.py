"""The engine broken on purpose, one place at a time: a test must go red for each."""
