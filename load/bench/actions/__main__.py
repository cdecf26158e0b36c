"""``python -m load.bench.actions --help``."""

from load.bench.actions.cli import app

if __name__ == "__main__":
    app()
