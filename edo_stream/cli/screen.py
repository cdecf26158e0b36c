"""Where commands print: as wide as the terminal, and wide enough for a table in a pipe."""

import sys
from typing import Final

from rich.console import Console

_PIPE_WIDTH: Final = 160


def screen(is_stderr: bool = False) -> Console:
    """Make the console; in a pipe nothing is cut at 80 columns."""
    stream = sys.stderr if is_stderr else sys.stdout
    return Console(stderr=is_stderr, width=None if stream.isatty() else _PIPE_WIDTH)
