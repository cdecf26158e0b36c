"""Certificates and key sets, fetched by address and kept for a while.

The schemes have checked whose address it is. Few are fetched at a time, since a stranger may name
any path of a known host; and what could not be fetched is not tried again at once.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final
from urllib.request import Request, urlopen

log = logging.getLogger(__name__)

Get = Callable[[str], str]
"""Blocking; raises ``OSError`` or ``ValueError``."""

_TIMEOUT_S: Final = 5.0
_BYTES_MAX: Final = 1 << 20
_KEPT_S: Final = 3_600.0
_FAILED_S: Final = 10.0
#: A key that is not in a set of this age may be newer than the set.
_FRESH_S: Final = 60.0
_DOCUMENTS_MAX: Final = 64
_AT_ONCE_MAX: Final = 4


def get(url: str) -> str:
    """Get a document over https."""
    if not url.startswith("https://"):
        raise ValueError("only https is fetched")
    with urlopen(Request(url), timeout=_TIMEOUT_S) as found:  # noqa: S310 - https, checked above
        return str(found.read(_BYTES_MAX).decode("utf-8", "replace"))


class Documents:
    """A cache; what is there is given at once, what is not is awaited."""

    def __init__(self, get_one: Get = get) -> None:
        self._get = get_one
        self._texts: dict[str, str] = {}
        self._at_s: dict[str, float] = {}
        self._fetching: dict[str, asyncio.Task[str | None]] = {}
        self._loop = asyncio.get_running_loop()

    @property
    def texts(self) -> dict[str, str]:
        """Documents by address, for the schemes; not to be changed."""
        return self._texts

    async def fetch(self, url: str, is_stale: bool = False) -> str | None:
        """Fetch a document unless it is there; ``None`` when it cannot be had."""
        age_s = self._loop.time() - self._at_s.get(url, float("-inf"))
        if url in self._texts and age_s < (_FRESH_S if is_stale else _KEPT_S):
            return self._texts[url]
        if url not in self._texts and age_s < _FAILED_S:
            return None
        task = self._fetching.get(url)
        if task is None:
            if len(self._fetching) >= _AT_ONCE_MAX:
                return None
            task = self._fetching[url] = self._loop.create_task(self._load(url))
        return await asyncio.shield(task)

    async def confirm(self, url: str) -> bool:
        """Go to an address for its effect; whether that worked."""
        try:
            await asyncio.to_thread(self._get, url)
        except (OSError, ValueError) as error:
            log.warning("subscription not confirmed: %s", type(error).__name__)
            return False
        return True

    async def _load(self, url: str) -> str | None:
        try:
            text: str | None = await asyncio.to_thread(self._get, url)
        except (OSError, ValueError) as error:
            log.warning("document not fetched: %s: %s", url.partition("?")[0], type(error).__name__)
            text = None
        finally:
            del self._fetching[url]
        if len(self._at_s) >= _DOCUMENTS_MAX and url not in self._at_s:
            oldest = min(self._at_s, key=self._at_s.__getitem__)
            del self._at_s[oldest]
            self._texts.pop(oldest, None)
        self._at_s[url] = self._loop.time()
        if text is not None:
            self._texts[url] = text
        return self._texts.get(url)
