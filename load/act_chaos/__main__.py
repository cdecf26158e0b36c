"""``python -m load.act_chaos --help``."""

from load.act_chaos.cli import app

if __name__ == "__main__":
    app()
