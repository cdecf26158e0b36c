"""How the long-lived runners of the engine are ended."""

import asyncio
from typing import Final

_CANCEL_S: Final = 1.0


async def end_runner(runner: asyncio.Task[None], cancels_max: int) -> bool:
    """Cancel it, so often and a second each; whether it has ended.

    Again and again, because a client that is being closed may swallow a cancellation.
    """
    for _ in range(cancels_max):
        runner.cancel()
        await asyncio.wait([runner], timeout=_CANCEL_S)
        if runner.done():
            return True
    return False
