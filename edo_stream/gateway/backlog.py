"""How far the workers are behind with what a source brings, so that it can be told to wait.

Looked at every second, in a thread: offsets that the workers' group has committed against the ends
of the topics, and where an age is declared the time of the first record that is not worked off. A
slow receiver shows here: its commands stay in hand, their partition pauses, and the lag of their
topic grows. While nobody can tell how far the workers are, nothing is refused on their account:
what Kafka does not take is answered 503 elsewhere.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

log = logging.getLogger(__name__)

_LOOK_S: Final = 1.0
_PATIENCE_S: Final = 5.0
#: Time for the first records of all partitions to come.
_FIRST_S: Final = 2.0
#: What was seen so long ago is not known any more.
_STALE_S: Final = 15.0
_FETCH_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Bound:
    """What one source allows."""

    topics: Sequence[str]
    """Its own, and those of the commands that its events trigger."""
    lag_max: int | None
    age_max_ms: int | None
    retry_s: float


class Depth(NamedTuple):
    """How far behind: records in all of a source's topics, and the age of the oldest in ms."""

    lag: int
    age_ms: int


class Backlog:
    """The sources that have a bound; ``bounds`` is by their names."""

    def __init__(self, access: Mapping[str, Any], group: str, bounds: Mapping[str, Bound]) -> None:
        # What a producer is told besides.
        client = {name: value for name, value in access.items() if name != "compression.type"}
        self._look = _Look(client, group, bounds)
        self._bounds = bounds
        self._depths: Mapping[str, Depth] = {}
        self._seen_s = 0.0
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    def refusal(self, source: str) -> tuple[str, float] | None:
        """Why a source's requests are to come later, and in how many seconds; ``None``: now."""
        bound, depth = self._bounds.get(source), self._depths.get(source)
        if bound is None or depth is None:
            return None
        if bound.lag_max is not None and depth.lag > bound.lag_max:
            return "there is more to work off than is allowed", bound.retry_s
        if bound.age_max_ms is not None and depth.age_ms > bound.age_max_ms:
            return "what came before has waited for too long", bound.retry_s
        return None

    def depths(self) -> Mapping[str, Depth]:
        """How far behind each source is, as far as it is known."""
        return self._depths

    async def close(self) -> None:
        """Look no more."""
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await asyncio.to_thread(self._look.close)

    async def _watch(self) -> None:
        while True:
            try:
                self._depths = await asyncio.to_thread(self._look)
                self._seen_s = time.monotonic()
            except (KafkaException, TimeoutError) as error:
                if self._depths and time.monotonic() > self._seen_s + _STALE_S:
                    log.warning("how far the workers are is not known: %s", error)
                    self._depths = {}
            await asyncio.sleep(_LOOK_S)


class _Look:
    """Asks the broker; called from one thread at a time."""

    def __init__(self, client: Mapping[str, Any], group: str, bounds: Mapping[str, Bound]) -> None:
        # The client of an administrator is a producer's, which would create what it asks for.
        self._client = {**client, "allow.auto.create.topics": False}
        self._missing: set[str] = set()
        self._group = group
        self._bounds = bounds
        self._topics = sorted({topic for bound in bounds.values() for topic in bound.topics})
        self._admin: AdminClient | None = None
        self._reader: Consumer | None = None

    def __call__(self) -> Mapping[str, Depth]:
        if self._admin is None:
            self._admin = AdminClient(dict(self._client))
        partitions = self._partitions(self._admin)
        nexts = self._nexts(self._admin, partitions)
        lags = self._lags(self._admin, nexts)
        ages_ms = self._ages_ms({place: nexts[place] for place, lag in lags.items() if lag})
        return {name: _depth(bound, lags, ages_ms) for name, bound in self._bounds.items()}

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _partitions(self, admin: AdminClient) -> list[tuple[str, int]]:
        found = []
        for topic in self._topics:
            metadata = admin.list_topics(topic, timeout=_PATIENCE_S).topics[topic]
            found += [(topic, number) for number in metadata.partitions]
            if metadata.error is not None and topic not in self._missing:
                self._missing.add(topic)
                log.warning("how far %s is worked off is not known: %s", topic, metadata.error)
        return found

    def _nexts(
        self, admin: AdminClient, partitions: Sequence[tuple[str, int]]
    ) -> dict[tuple[str, int], int]:
        """First offset of each partition that is not worked off."""
        if not partitions:
            return {}
        asked = [TopicPartition(*place) for place in partitions]
        # What was never committed, or deleted since, begins with the log.
        firsts = _offsets(admin, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        request = ConsumerGroupTopicPartitions(self._group, asked)
        (answer,) = admin.list_consumer_group_offsets([request]).values()
        committed = answer.result(_PATIENCE_S).topic_partitions
        return {
            (one.topic, one.partition): max(one.offset, firsts[one.topic, one.partition])
            for one in committed
        }

    def _lags(
        self, admin: AdminClient, nexts: Mapping[tuple[str, int], int]
    ) -> dict[tuple[str, int], int]:
        if not nexts:
            return {}
        ends = _offsets(admin, list(nexts), OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return {place: max(0, ends[place] - next_) for place, next_ in nexts.items()}

    def _ages_ms(self, behind: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
        """Age of the first record of each partition; none where only markers are left."""
        watched = {
            topic
            for bound in self._bounds.values()
            if bound.age_max_ms is not None
            for topic in bound.topics
        }
        left = {place: next_ for place, next_ in behind.items() if place[0] in watched}
        ages_ms: dict[tuple[str, int], int] = {}
        if not left:
            return ages_ms
        reader = self._reader or self._make_reader()
        reader.assign([TopicPartition(*place, next_) for place, next_ in left.items()])
        until_s = time.monotonic() + _FIRST_S
        while left and time.monotonic() < until_s:
            for message in reader.consume(100, timeout=0.1):
                place = (message.topic() or "", message.partition() or 0)
                if left.pop(place, None) is not None and message.error() is None:
                    written_ms = message.timestamp()[1]
                    ages_ms[place] = max(0, time.time_ns() // 1_000_000 - written_ms)
        reader.unassign()
        return ages_ms

    def _make_reader(self) -> Consumer:
        self._reader = Consumer(
            {
                **self._client,
                # Never joined: partitions are assigned by hand, and nothing is committed.
                "group.id": f"{self._group}.gateway",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "max.partition.fetch.bytes": _FETCH_BYTES,
            }
        )
        return self._reader


def _offsets(
    admin: AdminClient, partitions: Sequence[tuple[str, int]], spec: OffsetSpec
) -> dict[tuple[str, int], int]:
    asked = {TopicPartition(*place): spec for place in partitions}
    return {
        (one.topic, one.partition): answer.result(_PATIENCE_S).offset
        for one, answer in admin.list_offsets(asked).items()
    }


def _depth(
    bound: Bound,
    lags: Mapping[tuple[str, int], int],
    ages_ms: Mapping[tuple[str, int], int],
) -> Depth:
    return Depth(
        sum(lag for (topic, _), lag in lags.items() if topic in bound.topics),
        max((age for (topic, _), age in ages_ms.items() if topic in bound.topics), default=0),
    )
