"""How long a killed worker is away that is started again at once, with its disk and its name."""

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from edo_stream.local.kafka import LocalKafka
from load.bounds.figures import Bound, Scale
from load.bounds.place import PARTITIONS, BoundError, Place
from load.plan import Kind, Planned

_SERVICE: Final = "bounds"
_A_SECOND: Final = 200
_STEADY_S: Final = 3.0
#: A result that was committed before the kill is with the reader by then, and no worker can have
#: started: it needs longer for its imports.
_IN_FLIGHT_S: Final = 0.3
_PATIENCE_S: Final = 60.0
_POLL_S: Final = 0.05
#: What makes the absence short: a name that the group knows, within a session that is not over.
SETTINGS: Final = {"EDO_INSTANCE": "bounds-1", "EDO_SESSION_TIMEOUT_MS": "30000"}


class Arrivals:
    """When results came to a ``read_committed`` reader, in seconds of the monotonic clock."""

    def __init__(self, broker: str, topic: str) -> None:
        self._broker = broker
        self._places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        self._seen_s: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._read()))

    def first_after(self, since_s: float) -> float:
        """When the first result after a time came.

        Raises:
            BoundError: none does, within a minute.
        """
        deadline_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline_s:
            if came := next((at_s for at_s in self._seen_s if at_s > since_s), None):
                return came
            time.sleep(_POLL_S)
        raise BoundError(f"no result within {_PATIENCE_S:.0f} s")

    def __enter__(self) -> "Arrivals":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    async def _read(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._broker,
            isolation_level="read_committed",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            consumer.assign(self._places)
            await consumer.seek_to_end(*self._places)
            while not self._is_over.is_set():
                if await consumer.getmany(timeout_ms=200):
                    self._seen_s.append(time.monotonic())
        finally:
            await consumer.stop()


def measure_restart(root: Path, kafka: LocalKafka, scale: Scale) -> list[Bound]:
    """From the start of the process to its first result."""
    place = Place(root, kafka, "restart", "ordering: {policy: key}", PARTITIONS)
    place.create(_SERVICE)
    away_s = []
    with place.worker(_SERVICE, settings=SETTINGS) as worker:
        place.send(_events("before", scale.restart_rows, None))
        place.wait_until_read(_SERVICE)
        with Arrivals(kafka.bootstrap, f"{place.topic}.out") as arrivals:
            for kill in range(scale.restarts):
                with _sending(place, f"kill-{kill}"):
                    arrivals.first_after(time.monotonic() + _STEADY_S)
                    worker.kill()
                    started_s = time.monotonic()
                    worker.launch()
                    away_s.append(arrivals.first_after(started_s + _IN_FLIGHT_S) - started_s)
                worker.wait_ready(_PATIENCE_S)
                place.wait_until_read(_SERVICE)
    shown = ", ".join(f"{one:.1f}" for one in away_s)
    detail = f"{scale.restart_rows:,} ids on the disk, {_A_SECOND} events/s; each kill: {shown} s"
    return [Bound("first result after a kill", statistics.median(away_s), 3, "s", detail)]


@contextmanager
def _sending(place: Place, prefix: str) -> Iterator[None]:
    """Events at a steady rate, from another thread, until the block ends."""
    is_over = threading.Event()

    def events() -> Iterator[Planned]:
        for planned in _events(prefix, round(2 * _PATIENCE_S * _A_SECOND), _A_SECOND):
            if is_over.is_set():
                return
            yield planned

    thread = threading.Thread(target=place.send, args=(events(),))
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _events(prefix: str, count: int, a_second: int | None) -> Iterator[Planned]:
    """Events that no other repeats, of 2,000 keys."""
    for number in range(count):
        headers = (
            ("ce_specversion", b"1.0"),
            ("ce_id", f"{prefix}-{number}".encode()),
            ("ce_source", b"/load/bounds"),
            ("ce_type", b"load.thing.happened"),
            ("content-type", b"application/json"),
        )
        due_s = 0.0 if a_second is None else number / a_second
        key = b"key-%d" % (number % 2_000)
        yield Planned(due_s, key, b'{"n":%d}' % number, headers, Kind.EVENT, None)
