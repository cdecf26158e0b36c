"""What is wrong with a schedule, in words that say what to write instead."""


class ScheduleError(ValueError):
    """An expression, a zone or a calendar cannot be used."""
