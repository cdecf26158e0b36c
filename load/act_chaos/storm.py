"""A run: events that trigger commands, harms meanwhile, and what came of it all."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from edo_stream.core.partitioner import partition_of
from edo_stream.local.kafka import LocalKafka
from load.act_chaos.evidence import gather, settle
from load.act_chaos.handlers import CRASHED, LEDGER
from load.act_chaos.judge import Verdict, judge
from load.act_chaos.place import PARTITIONS, Place, headers_of, producer_to
from load.act_chaos.plan import Job, Jobs
from load.act_chaos.receiver import HttpReceiver
from load.field import Field
from load.fleet import LocalWorker
from load.harm import Harm, hurt

_TICK_S: Final = 0.05
_KEEP_S: Final = 0.5
_DOWN_S: Final = 3.0
_START_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Weather:
    """What a run is to be."""

    seed: int
    harms: Sequence[Harm]
    """In their order; events come until all are done."""
    rate: float = 40.0
    """Events a second of each flow."""
    seconds: float = 0.0
    """At least so long."""
    pause_s: tuple[float, float] = (2.0, 6.0)
    """Between two harms."""


@dataclass(frozen=True, slots=True)
class Scene:
    """All that there is."""

    place: Place
    field: Field
    receiver: HttpReceiver


@dataclass(slots=True)
class Aftermath:
    """What a run has left."""

    verdict: Verdict
    sent: int
    harms: Counter[Harm]
    crashes: int
    """Worker processes that an executor has ended, by what the executors wrote down."""
    sent_s: float
    settled_s: float

    @property
    def findings(self) -> list[str]:
        """All that is wrong."""
        return self.verdict.findings


@contextmanager
def open_scene(
    name: str, directory: Path, brokers: Sequence[LocalKafka], workers: int
) -> Iterator[Scene]:
    """Start workers and the receiver; ``brokers`` that run are harmed as well, if harms say so."""
    # Workers have a directory of their own to run in.
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    with HttpReceiver(directory / LEDGER, f"{name}-tell") as receiver:
        place = Place(name, directory, brokers[0].bootstrap, receiver.url)
        place.prepare()
        fleet = place.workers(workers)
        field = Field(directory, list(brokers), fleet, place.environment)
        try:
            for worker in fleet:
                worker.launch()
            for worker in fleet:
                worker.wait_ready(_START_S)
            yield Scene(place, field, receiver)
        finally:
            for worker in (*fleet, *field.extra):
                worker.kill()


class _Keeper:
    """Starts workers again that have ended by themselves: what a supervisor does."""

    def __init__(self, workers: Sequence[LocalWorker]) -> None:
        self._workers = workers
        self.hands = asyncio.Lock()
        """Whoever holds it starts and ends workers."""

    async def keep(self) -> None:
        """Look, for ever."""
        while True:
            await asyncio.sleep(_KEEP_S)
            async with self.hands:
                await asyncio.to_thread(self._look)

    def _look(self) -> None:
        for worker in self._workers:
            if not worker.is_running:
                worker.launch()


async def endure(weather: Weather, scene: Scene, say: Callable[[str], None]) -> Aftermath:
    """Send until all harms are done, wait until all has ended, and judge."""
    place, field = scene.place, scene.field
    start_s = time.monotonic()
    keeper = _Keeper(field.workers)
    keeping = asyncio.create_task(keeper.keep())
    is_over = asyncio.Event()
    sending = asyncio.create_task(_send(weather, place, is_over))
    harms = await _storm(weather, scene, keeper, say)
    left_s = weather.seconds - (time.monotonic() - start_s)
    if left_s > 0:
        await asyncio.sleep(left_s)
    is_over.set()
    jobs = await sending
    sent = sum(len(made) for made in jobs.values())
    sent_s = time.monotonic() - start_s
    say(f"sent {sent:,} events; all harms are done, waiting for the rest to end")
    unended = await settle(place, jobs, say)
    settled_s = time.monotonic() - start_s - sent_s
    async with keeper.hands:
        keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
    for worker in (*field.workers, *field.extra):
        await asyncio.to_thread(worker.stop)
    verdict = judge(await gather(place, jobs), scene.receiver.receiver.applied)
    if unended:
        verdict.findings.append(f"{unended} commands have no end, and none came any more")
    crashes = len(list((place.directory / CRASHED).iterdir()))
    return Aftermath(verdict, sent, harms, crashes, sent_s, settled_s)


async def _send(weather: Weather, place: Place, is_over: asyncio.Event) -> dict[str, list[Job]]:
    """Send events of all flows at the rate, until it is over."""
    sources = {flow.name: Jobs(flow, weather.seed) for flow in place.flows}
    producer = producer_to(place.broker)
    await producer.start()
    deliveries = []
    try:
        start_s, number = time.monotonic(), 0
        while not is_over.is_set():
            while number < weather.rate * (time.monotonic() - start_s):
                number += 1
                for flow in place.flows:
                    job = sources[flow.name].next()
                    deliveries.append(
                        await producer.send(
                            place.topic(flow),
                            msgspec.json.encode(job),
                            job.key.encode(),
                            partition_of(job.key.encode(), PARTITIONS),
                            headers=list(headers_of(job.number, flow)),
                        )
                    )
            await asyncio.sleep(_TICK_S)
        await asyncio.gather(*deliveries)
    finally:
        await producer.stop()
    return {name: jobs.made for name, jobs in sources.items()}


async def _storm(
    weather: Weather, scene: Scene, keeper: _Keeper, say: Callable[[str], None]
) -> Counter[Harm]:
    chance = random.Random(weather.seed)
    done: Counter[Harm] = Counter()
    for harm in weather.harms:
        await asyncio.sleep(chance.uniform(*weather.pause_s))
        # Beside every other harm the HTTP flow's receiver is down for a while.
        down = asyncio.create_task(_take_down(scene.receiver)) if done.total() % 2 else None
        began_s = time.monotonic()
        async with keeper.hands:
            name = await asyncio.to_thread(hurt, harm, scene.field, chance)
        done[harm] += 1
        say(f"{done.total()}/{len(weather.harms)} {name} ({time.monotonic() - began_s:.0f} s)")
        if down is not None:
            await down
    return done


async def _take_down(receiver: HttpReceiver) -> None:
    receiver.is_down = True
    await asyncio.sleep(_DOWN_S)
    receiver.is_down = False
