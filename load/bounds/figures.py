"""What a measurement gives, and how much it does."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure, and what it must not exceed."""

    name: str
    value: float
    bar: float
    unit: str
    detail: str

    @property
    def is_kept(self) -> bool:
        """Whether the figure is within its bar."""
        return self.value <= self.bar


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done; the bars are meant for the defaults."""

    burst: int = 1_000_000
    idle_s: float = 60.0
    timers: int = 400
    rate: int = 10_000
    pairs: int = 5
    pair_records: int = 400_000
    restarts: int = 5
    restart_rows: int = 200_000
