"""Hurt workers while one burst goes through them, then judge what came out: for the tests."""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edo_stream.registry import Registry
from load.expect import expect
from load.field import SESSION_TIMEOUT_S, Field
from load.fleet import LocalWorker
from load.harm import Harm, hurt
from load.judge import SOURCE, Outcome, judge
from load.plan import plan
from load.profile import Profile
from load.send import SendPolicy, send

_START_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Storm:
    """A run: a burst through ``workers``, and the harms that they suffer, one after another."""

    profile: Profile
    harms: Sequence[Harm]
    workers: int = 2
    pause_s: tuple[float, float] = (0.5, 2.5)
    """Between two harms, drawn from the profile's seed."""


@contextmanager
def fleet(
    directory: Path, count: int, environment: Mapping[str, str]
) -> Iterator[list[LocalWorker]]:
    """Run workers side by side; they end with the block."""
    hurried = {
        "EDO_SESSION_TIMEOUT_MS": str(int(SESSION_TIMEOUT_S * 1000)),
        "EDO_HEARTBEAT_INTERVAL_MS": "1000",
        **environment,
    }
    workers = [LocalWorker(directory / f"worker-{n}", hurried) for n in range(count)]
    with ExitStack() as stack:
        for worker in workers:
            worker.launch()
            stack.callback(worker.stop)
        for worker in workers:
            worker.wait_ready(_START_S)
        yield workers


async def run(  # noqa: PLR0913 - what a run is made of
    storm: Storm,
    workers: Sequence[LocalWorker],
    broker: str,
    app: str,
    registry: Registry,
    report: Callable[[str], None],
) -> Outcome:
    """Send the burst, hurt the workers meanwhile, and judge when all has settled."""
    access = {"bootstrap_servers": broker}
    sending = asyncio.create_task(
        send(plan(storm.profile), SOURCE, access, SendPolicy(), lambda _: None)
    )
    place = Field(workers[0].directory.parent, [], list(workers), {})
    chance = random.Random(storm.profile.seed)
    harms = []
    for harm in storm.harms:
        await asyncio.sleep(chance.uniform(*storm.pause_s))
        harms.append(await asyncio.to_thread(hurt, harm, place, chance))
        report(harms[-1])
    sent = await sending
    report(f"sent {sent.sent:,} records, {len(harms)} harms done")
    outcome = await judge([expect(storm.profile)], broker, app, registry, report)
    outcome.harms = harms
    return outcome
