"""A range of a topic again, through flows that may: see ``docs/replay.md``."""
