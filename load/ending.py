"""A long run that is told to end closes all that it has opened: on SIGTERM as on SIGINT."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def ends_in_order() -> Iterator[None]:
    """Let the first of the signals end the block by an exception, ``128 + signal`` its exit code.

    Later ones change nothing: what is being closed is closed. Who cannot wait kills with -9.
    """
    is_ending = False

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal is_ending
        if not is_ending:
            is_ending = True
            told = f"{signal.Signals(number).name}: the harm under way ends, then all is stopped\n"
            os.write(sys.stderr.fileno(), told.encode())
            raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        yield
    finally:
        # A later one does not cut off the end of the process either.
        for number, handler in before.items() if not is_ending else ():
            signal.signal(number, handler)
