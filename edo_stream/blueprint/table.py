"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[object]], nothing: str) -> list[str]:
    """Lines of a table and an empty one; ``nothing`` stands for a table without rows."""
    lines = [_line(row) for row in rows]
    if not lines:
        return [nothing, ""]
    return [_line(header), "|" + "---|" * len(header), *lines, ""]


def code(text: str) -> str:
    """A name as it is written in files and commands."""
    return f"`{text}`" if text else ""


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    if not text.startswith("`"):
        # Of people's own words none is markup; what is quoted as code is none anyway.
        text = text.replace("&", "&amp;").replace("<", "&lt;")
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())
