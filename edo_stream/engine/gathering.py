"""Several things at once, all of them to their end."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def all_ended(awaitables: Iterable[Awaitable[T]]) -> list[T]:
    """What came of each, in order; what one raises is raised when none is under way any more."""
    found: list[T] = []
    for end in await asyncio.gather(*awaitables, return_exceptions=True):
        if isinstance(end, BaseException):
            raise end
        found.append(end)
    return found
