"""What goes wrong and when: by chance from the seed, or at one chosen call."""

from collections import Counter
from collections.abc import Mapping
from random import Random

from edo_stream.testing.loop import Killed, Process


class Faults:
    """Decides at every opportunity whether a fault strikes, and counts those that did.

    ``rates`` are probabilities by name. ``crash_at_call`` kills the process that makes the n-th
    call (counted from 0 over all ports), before or after its effect. ``at`` makes the n-th
    opportunity of a name strike, whatever the rates say.
    """

    def __init__(self, random: Random, rates: Mapping[str, float]) -> None:
        self.fired: Counter[str] = Counter()
        self.opportunities: Counter[str] = Counter()
        self.calls = 0
        self.is_over = False
        self.crash_at_call: tuple[int, str] | None = None
        self.at: dict[str, int] = {}
        self._random = random
        self._rates = dict(rates)

    def strikes(self, name: str) -> bool:
        """Whether the fault of this name strikes now."""
        nth = self.opportunities[name]
        self.opportunities[name] += 1
        if self.at.get(name) == nth:
            self.fired[name] += 1
            return True
        rate = self._rates.get(name, 0.0)
        if self.is_over or not rate or self._random.random() >= rate:
            return False
        self.fired[name] += 1
        return True

    def one_of(self, *names: str) -> str | None:
        """The first of these faults that strikes, if any."""
        return next((name for name in names if self.strikes(name)), None)

    def between(self, low: float, high: float) -> float:
        """A number for whoever needs one that the seed decides."""
        return self._random.uniform(low, high)

    def choose(self, *options: BaseException) -> BaseException:
        """One of several errors."""
        return options[self._random.randrange(len(options))]

    def enter(self, process: Process) -> None:
        """A process calls a port; nothing has happened yet."""
        self._call(process, "before")

    def leave(self, process: Process) -> None:
        """The effect of the call has happened; the process does not know yet."""
        self._call(process, "after")

    def _call(self, process: Process, when: str) -> None:
        if not process.is_alive:
            raise Killed
        if self.crash_at_call == (self.calls, when) or self.strikes(f"crash-{when}"):
            self.fired[f"crash-{when}-call"] += 1
            self.crash_at_call = None
            process.kill()
            raise Killed
        if when == "after":
            self.calls += 1
