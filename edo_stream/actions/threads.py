"""A function in a thread of its own, so that it may block.

A thread cannot be ended: a call that is cancelled is over when its function is. The threads are
daemons, so that none keeps the worker from ending; and there is one a call, since a function that
hangs must not be what others wait for.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[[], T], name: str) -> T:
    """Call a function in a thread, and wait for its end, come what may."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    result: list[T] = []
    error: list[BaseException] = []

    def run() -> None:
        try:
            result.append(function())
        except BaseException as raised:  # noqa: BLE001 - raised where it is waited for
            error.append(raised)
        with suppress(RuntimeError):  # The worker has ended, and its loop is closed.
            loop.call_soon_threadsafe(ended.set)

    Thread(target=run, name=name, daemon=True).start()
    try:
        await ended.wait()
    except asyncio.CancelledError:
        await ended.wait()
        raise
    if error:
        raise error[0]
    return result[0]
