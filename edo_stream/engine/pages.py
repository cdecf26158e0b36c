"""Pages on the worker's port, answered by plain callables."""

from collections.abc import Callable, Mapping
from typing import Any

from edo_stream.engine.worker import EdoApp
from edo_stream.views import Page


def add_pages(app: EdoApp, pages: Mapping[str, Callable[[], Page]]) -> None:
    """Serve pages by path; each answer is made in the worker's event loop, and quickly."""
    for path, answer in pages.items():
        app.page(path, name=path)(_view(answer))


def _view(answer: Callable[[], Page]) -> Any:
    async def view(web: Any, _request: Any) -> Any:
        page = answer()
        # As a header: only there may a content type have parameters.
        headers = {"Content-Type": page.content_type}
        return web.bytes(page.body, status=page.status, headers=headers)

    return view
