"""The same kills for each program: SIGKILL in the middle of the work, started again at once."""

import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from load.bench.programs import Contestant, Place, Program, contestant
from load.bench.records import Input
from load.bench.run import Bench, judge
from load.bench.watch import End, watch

SESSION_TIMEOUT_MS: Final = 6_000
_STALL_S: Final = 120.0
"""A transaction that is left open blocks its readers for a minute where nobody fences it."""
_SEED: Final = 3
_DELAY_S_MAX: Final = 0.5
_LIMIT_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class Endurance:
    """What came out in spite of the kills."""

    program: str
    records: int
    kills: int
    """Fewer than asked for where the work was done before."""
    deaths: int
    """Times that it ended by itself, and was started again."""
    end: str
    duration_s: float
    resumed_s: list[float]
    """From each start to the next result that was visible."""
    lost: int
    repeated: int
    out_of_order: int
    unexpected: int
    examples: dict[str, list[str]]

    @property
    def is_exact(self) -> bool:
        """Whether every event came out once and in order, and nothing else did."""
        return not (self.lost or self.repeated or self.out_of_order or self.unexpected)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the report."""
        return asdict(self)


def kill_marks(events: int, kills: int) -> list[int]:
    """After how many results to kill: the work in equal parts."""
    return [events * number // (kills + 1) for number in range(1, kills + 1)]


@dataclass(slots=True)
class _Killer:
    """Kills when a mark is passed, a moment later, so that it is in the middle of something."""

    worker: Contestant
    marks: list[int]
    say: Callable[[str], None]
    chance: random.Random = field(default_factory=lambda: random.Random(_SEED))
    kills: int = 0
    deaths: int = 0
    resumed_s: list[float] = field(default_factory=list)
    _due_s: float | None = None
    _started_s: float = field(default_factory=time.monotonic)
    _has_resumed: bool = False

    def look(self, visible: int, has_moved: bool) -> None:
        now_s = time.monotonic()
        if has_moved and not self._has_resumed:
            self._has_resumed = True
            self.resumed_s.append(round(now_s - self._started_s, 1))
        if not self.worker.is_running:
            self.deaths += 1
            self._start_again()
        elif self._due_s is None and self._has_resumed and self._is_marked(visible):
            self._due_s = now_s + self.chance.uniform(0, _DELAY_S_MAX)
        elif self._due_s is not None and now_s >= self._due_s:
            self.worker.kill()
            self.kills += 1
            self.say(f"  {self.worker.group} killed after {visible:,} results")
            self._start_again()

    def _is_marked(self, visible: int) -> bool:
        return self.kills < len(self.marks) and visible >= self.marks[self.kills]

    def _start_again(self) -> None:
        self._due_s, self._has_resumed, self._started_s = None, False, time.monotonic()
        self.worker.launch()


async def endure(
    program: Program, source: Input, place: Place, bench: Bench, kills: int
) -> Endurance:
    """Do the job under kills, and judge what came out."""
    worker = contestant(program, place, bench.screen.say)
    await worker.prepare()
    began_s = time.monotonic()
    worker.launch()
    killer = _Killer(worker, kill_marks(source.expectation.events, kills), bench.screen.say)
    end = End.STALLED
    try:
        async for look in watch(worker, place, source, bench.topics, _STALL_S):
            bench.screen.show(f"{place.app}: {look.visible / source.expectation.events:.0%}")
            if look.end in (End.DONE, End.STALLED) or time.monotonic() - began_s > _LIMIT_S:
                end = look.end or End.STALLED
                break
            killer.look(look.visible, look.has_moved)
    finally:
        worker.stop()
    judged = await judge(source, place)
    await bench.clear(place)
    return Endurance(
        program=program.name,
        records=source.records,
        kills=killer.kills,
        deaths=killer.deaths,
        end=end.value,
        duration_s=round(time.monotonic() - began_s, 1),
        resumed_s=killer.resumed_s,
        lost=judged.missing,
        repeated=judged.repeated,
        out_of_order=judged.out_of_order,
        unexpected=judged.unexpected,
        examples={what: which[:3] for what, which in judged.examples.items()},
    )
