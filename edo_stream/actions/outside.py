"""What executors share, and what is to be closed when the worker stops."""

from collections.abc import Awaitable, Callable
from functools import cached_property

import aiohttp


class Outside:
    """A session of HTTP connections, made when the first one is needed; and the time."""

    def __init__(self, now_ms: Callable[[], int], reads_secrets: bool = True) -> None:
        self.now_ms = now_ms
        self.reads_secrets = reads_secrets
        """Whether secrets must be there; where flows are only looked at, they need not."""
        self._closing: list[Callable[[], Awaitable[None]]] = []

    @cached_property
    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            # Each flow has its own bound; one for all would let a slow receiver starve others.
            connector=aiohttp.TCPConnector(limit=0),
            # The limit of time is the flow's own.
            timeout=aiohttp.ClientTimeout(total=None),
            # What a receiver sets for one command is none of the next one's.
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "edo_stream"},
        )

    def session(self) -> aiohttp.ClientSession:
        """The session; call it in the event loop."""
        return self._session

    def now_s(self) -> float:
        """Epoch seconds."""
        return self.now_ms() / 1000

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Call it when the worker stops."""
        self._closing.append(close)

    async def close(self) -> None:
        """Close what was opened."""
        for close in self._closing:
            await close()
        if "_session" in self.__dict__:
            await self._session.close()
