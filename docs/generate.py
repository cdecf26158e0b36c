"""Write the generated parts of the documentation: ``make docs``."""

from pathlib import Path

from edo_stream.settings import settings_table

_MARK = "| Variable |"


def main() -> None:
    """Put the table of settings where the old one was, or at the end."""
    page = Path(__file__).parent / "settings.md"
    text = page.read_text()
    head = text[: text.index(_MARK)] if _MARK in text else text
    page.write_text(head + settings_table())


main()
