"""Follows dead letters and their acknowledgements, so that none waits unseen.

One worker of the fleet does it: the one that runs the first task. It reads the topics of dead
letters and of acknowledgements from their beginnings, remembers what nobody has acknowledged, some
250 bytes a letter, and goes on reading. What retention deletes is forgotten, acknowledged or not.

Bound: beyond ``letters_max`` letters, further ones are counted and not remembered; when half of
those that are have been acknowledged, all is read anew.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import UnknownTopicOrPartitionError, for_code
from aiokafka.structs import ConsumerRecord

from edo_stream.observe.dead_letters import ACKS, letter_at_ms, letter_id_of, source_of
from edo_stream.observe.owners import Owners
from edo_stream.views import LettersView

log = logging.getLogger(__name__)

LETTERS_MAX: Final = 100_000
_IDLE_S: Final = 2.0
_AGAIN_S: Final = 10.0
#: A rebalance takes all tasks away for a moment.
_GRACE_S: Final = 15.0
_LOOK_S: Final = 5.0
_POLL_MS: Final = 1_000
#: Where nothing comes, few requests are made.
_WAIT_MS: Final = 5_000
_RECORDS_AT_A_TIME: Final = 500
_FETCH_BYTES: Final = 1 << 20


class _Letter(NamedTuple):
    owner: str
    at_ms: int
    due_ms: int | None
    place: TopicPartition
    offset: int


class Waiting:
    """The letters that nobody has acknowledged."""

    def __init__(self, owners: Owners, letters_max: int = LETTERS_MAX) -> None:
        self._owners = owners
        self._letters_max = letters_max
        self._names = owners.names
        self.is_known = False
        """Whether all that there was has been read."""
        self.clear()

    def clear(self) -> None:
        """Know nothing."""
        self.is_known = False
        self._letters: dict[int, _Letter] = {}
        self._acknowledged: set[int] = set()
        self._others: Counter[str] = Counter()

    @property
    def topics(self) -> list[str]:
        """Topics of dead letters."""
        return sorted(self._owners.letters)

    @property
    def is_worn(self) -> bool:
        """Whether letters were left out for which there would be room by now."""
        return bool(self._others) and len(self._letters) <= self._letters_max // 2

    def take(self, record: ConsumerRecord) -> None:
        """Take a record of any of the topics, in any order."""
        if record.topic == ACKS:
            name = hash(record.key)
            if record.value is None:
                self._acknowledged.discard(name)
            else:
                self._acknowledged.add(name)
                self._letters.pop(name, None)
            return
        headers = {name: value or b"" for name, value in record.headers}
        name = hash(letter_id_of(record, headers))
        if name in self._acknowledged:
            return
        flow, source = source_of(headers)
        terms = self._owners.of(record.topic, flow, source)
        if len(self._letters) >= self._letters_max and name not in self._letters:
            self._others[terms.owner] += 1
            return
        at_ms = letter_at_ms(record, headers)
        due_ms = None if terms.within_ms is None else at_ms + terms.within_ms
        place = TopicPartition(record.topic, record.partition)
        self._letters[name] = _Letter(terms.owner, at_ms, due_ms, place, record.offset)

    def forget_before(self, firsts: Mapping[TopicPartition, int]) -> None:
        """Forget what retention has deleted: all before these offsets."""
        gone = [
            name
            for name, letter in self._letters.items()
            if letter.offset < firsts.get(letter.place, 0)
        ]
        for name in gone:
            del self._letters[name]

    def views(self, now_ms: int) -> tuple[LettersView, ...] | None:
        """What waits for each owner; ``None`` until all is known."""
        if not self.is_known:
            return None
        counts, overdue, oldest_ms = Counter(self._others), Counter[str](), dict[str, int]()
        for letter in self._letters.values():
            owner = letter.owner
            counts[owner] += 1
            overdue[owner] += letter.due_ms is not None and letter.due_ms < now_ms
            oldest_ms[owner] = min(letter.at_ms, oldest_ms.get(owner, letter.at_ms))
        return tuple(
            LettersView(
                owner=owner,
                waiting=counts[owner],
                oldest_age_ms=max(0, now_ms - oldest_ms.get(owner, now_ms)),
                overdue=overdue[owner],
            )
            for owner in self._names
        )


async def follow_letters(
    waiting: Waiting,
    broker: Mapping[str, Any],
    is_wanted: Callable[[], bool],
) -> None:
    """Read while it is wanted of this worker, for ever; a broker that is away is waited for."""
    while True:
        if not is_wanted():
            waiting.clear()
            await asyncio.sleep(_IDLE_S)
            continue
        try:
            await _Follower(waiting, [ACKS, *waiting.topics], broker).run(is_wanted)
        except Exception as error:  # noqa: BLE001 - the worker's own work goes on
            log.warning("dead letters are not counted at present: %s", type(error).__name__)
            await asyncio.sleep(_AGAIN_S)
        waiting.clear()


class _Follower:
    """One read of all, from the beginning on."""

    def __init__(self, waiting: Waiting, topics: Sequence[str], broker: Mapping[str, Any]) -> None:
        self._waiting = waiting
        self._topics = list(topics)
        self._admin = AIOKafkaAdminClient(**broker)
        self._consumer = AIOKafkaConsumer(
            **broker,
            isolation_level="read_committed",
            enable_auto_commit=False,
            # Where retention overtakes the read, it goes on behind.
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_bytes=2 * _FETCH_BYTES,
            fetch_max_wait_ms=_WAIT_MS,
        )
        self._assigned: frozenset[TopicPartition] = frozenset()

    async def run(self, is_wanted: Callable[[], bool]) -> None:
        try:
            await self._admin.start()
            await self._consumer.start()
            await self._follow(is_wanted)
        finally:
            await self._consumer.stop()
            await self._admin.close()

    async def _follow(self, is_wanted: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        look_at_s = loop.time()
        wanted_until_s = loop.time() + _GRACE_S
        ends: Mapping[TopicPartition, int] = {}
        while loop.time() < wanted_until_s and not self._waiting.is_worn:
            if is_wanted():
                wanted_until_s = loop.time() + _GRACE_S
            if loop.time() >= look_at_s:
                await self._look()
                look_at_s = loop.time() + _LOOK_S
                if not self._waiting.is_known:
                    ends = await self._ends()
            if not self._assigned:
                self._waiting.is_known = True
                await asyncio.sleep(_IDLE_S)
                continue
            fetched = await self._consumer.getmany(
                timeout_ms=_POLL_MS, max_records=_RECORDS_AT_A_TIME
            )
            for records in fetched.values():
                for record in records:
                    self._waiting.take(record)
                # Commands and transactions of the worker go first.
                await asyncio.sleep(0)
            if not self._waiting.is_known:
                self._waiting.is_known = await self._has_read(ends)

    async def _look(self) -> None:
        """Read topics that have come into being, and forget what was deleted."""
        described = await self._admin.describe_topics(self._topics)
        for topic in described:
            if topic["error_code"] not in (0, UnknownTopicOrPartitionError.errno):
                raise for_code(topic["error_code"])(topic["topic"])
        found = frozenset(
            TopicPartition(topic["topic"], partition["partition"])
            for topic in described
            if topic["error_code"] == 0
            for partition in topic["partitions"]
        )
        if found - self._assigned:
            positions = {one: await self._consumer.position(one) for one in self._assigned}
            self._consumer.assign(sorted(found))
            for place in found:
                if place in positions:
                    self._consumer.seek(place, positions[place])
            fresh = sorted(found - self._assigned)
            await self._consumer.seek_to_beginning(*fresh)
            self._assigned = found
        if found:
            self._waiting.forget_before(await self._consumer.beginning_offsets(sorted(found)))

    async def _ends(self) -> Mapping[TopicPartition, int]:
        if not self._assigned:
            return {}
        ends: Mapping[TopicPartition, int] = await self._consumer.end_offsets(
            sorted(self._assigned)
        )
        return ends

    async def _has_read(self, ends: Mapping[TopicPartition, int]) -> bool:
        for place, end in ends.items():
            if await self._consumer.position(place) < end:
                return False
        return True
