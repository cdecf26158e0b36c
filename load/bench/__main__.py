"""``python -m load.bench``: measure the engine beside others."""

from load.bench.cli import app

app()
