"""``python -m load.gateway``."""

from load.gateway.cli import app

if __name__ == "__main__":
    app()
