"""A break: one place where what is written by one version cannot be read by another."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Break:
    """One incompatibility, in the reader's schema."""

    pointer: str
    """JSON pointer into the reader's schema; ``""`` is all of it."""
    rule: str
    """A code of lower-case words joined by ``-``, such as ``required-added``."""
    message: str
    """What the writer may write, and what the reader does not read."""
    direction: str = "backward"
    """``backward``: the new version reads what the old one wrote; ``forward``: the other way."""
    against: int | None = None
    """Which of several old versions, from 0, oldest first; ``None`` if there is one."""

    def as_json(self) -> dict[str, Any]:
        """The break as plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}
