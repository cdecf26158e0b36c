"""``python -m load``: send a burst, and judge what came out of it."""

from load.cli import app

app()
