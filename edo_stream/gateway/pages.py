"""The gateway's own pages on a port of their own, away from strangers."""

from collections.abc import Callable

from edo_stream.gateway.http import Exchange, answer_bytes

Page = tuple[int, bytes, str]
"""Status, body and content type."""


def page_answer(page: Page | None, method: bytes) -> bytes:
    """The answer with a page; 404 without one."""
    if page is None:
        return answer_bytes(404, b'{"error":"path","detail":"there is nothing here"}')
    status, body, content_type = page
    return answer_bytes(status, b"" if method == b"HEAD" else body, content_type)


class Pages:
    """An application that has the gateway's own pages alone, for a port of its own."""

    def __init__(self, page: Callable[[bytes], Page | None]) -> None:
        self._page = page

    def admit(self, exchange: Exchange) -> bytes | None:
        """Answer at once; no page takes a body."""
        path = exchange.target.partition(b"?")[0]
        is_asked = exchange.method in (b"GET", b"HEAD")
        return page_answer(self._page(path) if is_asked else None, exchange.method)

    def grew(self, exchange: Exchange, size: int) -> bytes | None:
        """Nothing is taken."""
        return None

    def handle(self, exchange: Exchange) -> None:
        """Nothing is left to do."""

    def closed(self, exchange: Exchange) -> None:
        """Nothing is held."""

    def broken(self, status: int, cause: str, peer: str) -> bytes:
        """Say so."""
        return answer_bytes(status, b'{"error":"%b"}' % cause.encode(), is_last=True)
