"""Global tables: every worker has all their rows, on its own disks, for all its tasks.

Theory of operation. One reader of committed records serves all global tables of a worker. It goes
on where the disk stands, and first *loads*: it reads up to the ends that the partitions had when
it began. Tasks ask it where it stands: an event is looked at when the rows that were there before
it are (:mod:`edo_stream.engine.lookups`), so nothing has to be agreed upon between them. Rows and
positions go to the disk in one write, and when they are there the tasks are told which have come.

All of this happens in the worker's event loop: a task's step finds the rows as of one moment.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from edo_stream.core.lookup.global_table import DELETED, GlobalTable
from edo_stream.core.lookup.spec import Decode
from edo_stream.core.record import Record
from edo_stream.engine.ports import Changelog, Disk, DiskError, Follower, Grown
from edo_stream.engine.restore import TOMBSTONES_KEPT_MS
from edo_stream.engine.runner import end_runner

log = logging.getLogger(__name__)

Find = Callable[[bytes], bytes | None]
Listener = Callable[[str, Sequence[bytes] | None], None]
"""Is told the table, and the keys whose rows have come; ``None``: any may have."""
OpenDisk = Callable[[str, int], Disk]

#: The disk says of itself that it has something; where each partition stands are rows.
_OFFSET = 0
#: Short: tasks of the worker wait behind it.
_RECORDS_MAX = 500
_RETRY_S = 2.0
_TOPICS_S = 30.0
"""How often it is looked whether a topic has more partitions."""
_TIDY_S = 60.0
"""How often a disk notes that it is as new as its topic."""
#: For so long a deletion is remembered, and how often it is looked which may be forgotten.
_DELETED_KEPT_MS = 86_400_000
_FORGET_S = 3_600.0
_FORGOTTEN_MAX = 2_000
#: How often in a row a topic may seem to be another one, while its leader changes.
_DOUBTS_MAX = 5
_CANCELS_MAX = 5


class StaleError(Exception):
    """Rows were read that cannot be built upon any more: the process starts anew, without them."""


@dataclass(eq=False, slots=True)
class Held:
    """One table, as it is here."""

    topic: str
    disk: Disk
    table: GlobalTable
    stamps_ms: dict[int, int] = field(default_factory=dict)
    """When the disk had all that a partition had then; see the rule of tombstones."""
    ends: dict[int, int | None] = field(default_factory=dict)
    """Last stable offsets, as far as the broker has told."""
    wanted: dict[int, int] = field(default_factory=dict)
    """Ends up to which it is loaded, of the partitions that are not yet."""
    is_loaded: bool = False
    """Whether it ever was, in this process."""
    is_loading: bool = True
    doubts: int = 0
    """How often in a row the topic has seemed to be another one."""

    @property
    def lag(self) -> int | None:
        """Offsets that are not applied; ``None`` until the broker has told all ends."""
        ends = list(self.ends.items())
        if not ends or any(end is None for _, end in ends):
            return None
        at = self.table.positions
        return sum(max(0, (end or 0) - at.get(partition, 0)) for partition, end in ends)


class GlobalTables:
    """See the module's docstring; one object serves all tasks of a worker."""

    def __init__(  # noqa: PLR0913 - a composition of parts, made in one place
        self,
        decoders: Mapping[str, Decode],
        changelog: Changelog,
        follower: Follower[Record],
        open_disk: OpenDisk,
        now_ms: Callable[[], int],
        on_given_up: Callable[[str], None],
    ) -> None:
        self.held: dict[str, Held] = {}
        self._decoders = decoders
        self._changelog = changelog
        self._follower = follower
        self._open_disk = open_disk
        self._now_ms = now_ms
        self._on_given_up = on_given_up
        self._listeners: list[Listener] = []
        self._known = asyncio.Event()
        self._forgot_at = 0.0
        self._has_grown = False
        self._runner: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Open the disks and start to read; again, nothing."""
        if self._runner is None and self._decoders:
            for topic, decode in self._decoders.items():
                disk = self._open_disk(f"global.{topic}", 0)
                self.held[topic] = Held(topic, disk, GlobalTable(disk, decode))
            self._runner = asyncio.create_task(self._run(), name="global tables")

    async def close(self) -> None:
        """Stop to read and close the disks, for good."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        await end_runner(runner, _CANCELS_MAX)
        held, self.held = self.held, {}
        for one in held.values():
            one.disk.close()

    # What tasks ask.

    def finders(self, topics: frozenset[str]) -> dict[str, Find]:
        """How to find rows of these tables."""
        return {topic: self._finder(topic) for topic in topics}

    def _finder(self, topic: str) -> Find:
        def find(key: bytes) -> bytes | None:
            return self.held[topic].table.get(key)

        return find

    async def partitions(self, topics: frozenset[str]) -> list[TopicPartition]:
        """The partitions that these tables have now: new ones are read from here on.

        Raises:
            KafkaError: the broker does not tell.
        """
        await self._known.wait()
        found: list[TopicPartition] = []
        for topic in sorted(topics):
            count = await self._changelog.partitions(topic)
            if topic in self.held and count > len(self.held[topic].ends):
                self._has_grown = True
            found += [TopicPartition(topic, number) for number in range(count)]
        return found

    def position(self, partition: TopicPartition) -> int | None:
        """The offset behind the last that is applied; ``None`` when nothing is read of it."""
        held = self.held.get(partition.topic)
        return None if held is None else held.table.positions.get(partition.partition)

    def listen(self, listener: Listener) -> None:
        """Tell of rows that come, from now on."""
        self._listeners.append(listener)

    def forget(self, listener: Listener) -> None:
        """Tell no more."""
        with suppress(ValueError):
            self._listeners.remove(listener)

    # The reader.

    async def _run(self) -> None:
        try:
            while True:
                try:
                    await self._follow()
                except (DiskError, StaleError) as error:
                    self._on_given_up(f"global tables: {error}; leaving so as to be started anew")
                    return
                except Exception as error:
                    is_expected = isinstance(error, KafkaError | TimeoutError)
                    log.log(
                        logging.WARNING if is_expected else logging.ERROR,
                        "global tables: reading again: %s: %s",
                        type(error).__name__,
                        error,
                        exc_info=None if is_expected else error,
                    )
                    await asyncio.sleep(_RETRY_S)
        finally:
            await self._follower.close()

    async def _follow(self) -> None:
        """Read until a topic has more partitions."""
        self._has_grown = False
        starts: dict[TopicPartition, int] = {}
        for held in self.held.values():
            starts.update(await self._starts(held))
        self._known.set()
        await self._follower.follow(starts)
        clock = asyncio.get_running_loop()
        tidied_at = looked_at = clock.time()
        while True:
            grown = await self._follower.next(_RECORDS_MAX)
            if self._has_grown:
                log.info("global tables: there are more partitions: reading them as well")
                return
            for held in self.held.values():
                self._apply(
                    held,
                    {at.partition: part for at, part in grown.items() if at.topic == held.topic},
                )
                await asyncio.sleep(0)
            now = clock.time()
            if tidied_at + _TIDY_S <= now:
                tidied_at = now
                for held in self.held.values():
                    held.disk.write({}, _OFFSET, min(held.stamps_ms.values()))
            if self._forgot_at + _FORGET_S <= now:
                self._forgot_at = now
                await self._forget_deletions()
            if looked_at + _TOPICS_S <= now:
                looked_at = now
                await self.partitions(frozenset(self.held))

    async def _forget_deletions(self) -> None:
        before_ms = self._now_ms() - _DELETED_KEPT_MS
        for held in self.held.values():
            place: bytes | None = None if held.is_loading else DELETED
            while place is not None:
                changes, place = held.table.forgotten(before_ms, place, _FORGOTTEN_MAX)
                if changes:
                    held.disk.write(changes, _OFFSET, min(held.stamps_ms.values()))
                await asyncio.sleep(0)

    async def _starts(self, held: Held) -> dict[TopicPartition, int]:
        """Where to go on with each partition of a table, which is to be loaded from there on."""
        count = await self._changelog.partitions(held.topic)
        places = [TopicPartition(held.topic, number) for number in range(count)]
        bounds = [await self._changelog.bounds(place) for place in places]
        now_ms = self._now_ms()
        why = self._unusable(held, [end for _, end in bounds], now_ms)
        if why is not None:
            held.doubts += 1
            if held.is_loaded and held.doubts < _DOUBTS_MAX:
                raise KafkaError(f"{held.topic}: {why}")
            if held.is_loaded:
                # Tasks look rows up in it: they must not find it half empty.
                raise StaleError(f"{held.topic}: {why}")
            log.warning("global table wiped, loading in full: %s: %s", held.topic, why)
            held.disk.wipe()
            held.table.restore()
        held.doubts = 0
        written_ms = held.disk.written_at_ms() or now_ms
        starts = {}
        for place, (first, end) in zip(places, bounds, strict=True):
            at = max(first, held.table.positions.get(place.partition, 0))
            starts[place] = at
            held.ends[place.partition] = end
            held.stamps_ms.setdefault(place.partition, written_ms)
            if at < end:
                held.wanted[place.partition] = end
        held.is_loading = True
        lag = sum(
            max(0, end - starts[place]) for place, (_, end) in zip(places, bounds, strict=True)
        )
        log.info(
            "global table %s: %d rows here, %d offsets to read", held.topic, held.table.rows, lag
        )
        return starts

    def _unusable(self, held: Held, ends: Sequence[int], now_ms: int) -> str | None:
        """Why what is on the disk cannot be built upon, if so."""
        for number, position in held.table.positions.items():
            if number >= len(ends) or position > ends[number]:
                return f"it is ahead of partition {number}: the topic was created anew"
        written_ms = held.disk.written_at_ms()
        if held.table.positions and written_ms and now_ms - written_ms > TOMBSTONES_KEPT_MS:
            return "it is older than the topic's tombstones"
        return None

    def _apply(self, held: Held, grown: Mapping[int, Grown[Record]]) -> None:
        """Write what has come, and tell the tasks."""
        records = [record for part in grown.values() for record in part.records]
        positions = {number: part.position for number, part in grown.items()}
        for number, part in grown.items():
            if part.end is not None:
                held.ends[number] = part.end
                if part.told_ms is not None and part.position >= part.end:
                    held.stamps_ms[number] = part.told_ms
        changes, arrived = held.table.changes(records, positions)
        if changes:
            held.disk.write(changes, _OFFSET, min(held.stamps_ms.values()))
        for number, position in positions.items():
            if position >= held.wanted.get(number, 0):
                held.wanted.pop(number, None)
        if held.is_loading:
            if not held.wanted:
                self._end_loading(held)
        elif arrived:
            self._tell(held.topic, arrived)

    def _end_loading(self, held: Held) -> None:
        held.is_loading, held.is_loaded = False, True
        log.info("global table %s is loaded: %d rows", held.topic, held.table.rows)
        self._tell(held.topic, None)

    def _tell(self, topic: str, keys: Sequence[bytes] | None) -> None:
        for listener in list(self._listeners):
            listener(topic, keys)
