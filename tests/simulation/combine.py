"""Flows that debounce and batch in the world: the same tasks, and the same blows, as of joins.

When an event came to Kafka is in its record, so which events belong together follows from what was
sent, whatever is killed, cut off or late: no key may look quiet that was not.
"""

from collections import defaultdict
from itertools import pairwise
from random import Random
from typing import Any
from zlib import crc32

import msgspec
from aiokafka import TopicPartition

from edo_stream.core.correlation.spec import (
    Batched,
    Correlation,
    Debounced,
    Fire,
    Kind,
    OnLate,
    Target,
)
from edo_stream.testing.broker import NewRecord
from tests.simulation.joins import INPUTS, LETTERS, RESULTS, JoinWorld
from tests.simulation.load import START_MS, Arrival

QUIET_MS, CAP_MS, AFTER_MS, COUNT = 800, 1_500, 1_000, 3
KINDS: dict[str, Kind] = {
    "quiet": Debounced(QUIET_MS, 1_000_000),
    "capped": Debounced(QUIET_MS, CAP_MS),
    "batch": Batched(COUNT, 1 << 20, AFTER_MS),
}
_GAPS_S = (0.02, 0.3, 0.7)

Sent = dict[str, list[tuple[int, str]]]
"""Times and ids of events, by key, in order."""


def arrivals_of(random: Random, partitions: int) -> list[Arrival]:
    """Events that come in bursts; those of some keys on one partition, of others on several."""
    found = []
    for number in range(random.randrange(3, 14)):
        key, at_s = f"k{number}", random.uniform(0, 6.0)
        names = random.choice(("a", "ab"))
        for _ in range(random.randrange(1, 9)):
            at_s += random.choice((*_GAPS_S, random.uniform(0, 1.2), random.uniform(0, 3.0)))
            found += _arrival(random, random.choice(names), key, at_s, partitions)
    return sorted(found, key=lambda arrival: arrival.at_s)


def _arrival(random: Random, name: str, key: str, at_s: float, partitions: int) -> list[Arrival]:
    """An event, now and then twice, now and then by a slow transaction."""
    at_ms = START_MS + int(at_s * 1000)
    value = msgspec.json.encode({"id": f"{name}/{key}/{at_ms}", "k": key})
    own_key = f"{name}{crc32(key.encode()) % 9}".encode()
    place = TopicPartition(INPUTS[name], crc32(own_key) % partitions)
    open_s = random.choice((None, None, None, random.uniform(0, 3.0)))
    return [
        Arrival(at_s, place, [NewRecord(at_ms, own_key, value, ())], open_s)
        for _ in range(random.choice((1, 1, 1, 2)))
    ]


class CombineWorld(JoinWorld):
    """The world of the joins with flows that make one command of many events."""

    def __init__(self, seed: int, keeps_trace: bool = False) -> None:
        super().__init__(seed, keeps_trace)
        random = Random(f"{seed} combine")
        partitions = self.scenario.groups[0].partitions
        self.scenario.arrivals = arrivals_of(random, partitions)

    def _correlations(self) -> dict[str, Correlation]:
        return {
            flow: Correlation(
                flow=flow,
                owner="simulation",
                kind=kind,
                inputs=("a", "b"),
                target=Target(RESULTS, 1, flow),
                outcomes=LETTERS,
                dead_letters=LETTERS,
                partitions=3,
                fire=Fire.EACH,
                late=OnLate.NEW_RUN,
            )
            for flow, kind in KINDS.items()
        }

    def _judge_results(self) -> None:
        judge_combined(self)


def sent_to(world: CombineWorld) -> tuple[Sent, set[str]]:
    """What was sent, and keys whose events were all on one partition."""
    sent: dict[str, set[tuple[int, str]]] = defaultdict(set)
    places: dict[str, set[TopicPartition]] = defaultdict(set)
    for arrival in world.scenario.arrivals:
        for record in arrival.records:
            event = msgspec.json.decode(record.value or b"")
            sent[event["k"]].add((record.timestamp, event["id"]))
            places[event["k"]].add(arrival.place)
    single = {key for key, found in places.items() if len(found) == 1}
    return {key: sorted(events) for key, events in sent.items()}, single


def _parts(times: list[int], ends: Any) -> list[list[int]]:
    parts = [times[:1]]
    for before_ms, at_ms in pairwise(times):
        if ends(parts[-1], before_ms, at_ms):
            parts.append([])
        parts[-1].append(at_ms)
    return parts


def expected_of(flow: str, times: list[int]) -> list[int]:
    """How many events each command of a key has, when they are read in their order."""

    def ends(part: list[int], before_ms: int, at_ms: int) -> bool:
        if flow == "batch":
            return len(part) == COUNT or at_ms >= part[0] + AFTER_MS
        is_quiet = at_ms >= before_ms + QUIET_MS
        return is_quiet or (flow == "capped" and at_ms >= part[0] + CAP_MS)

    return [len(part) for part in _parts(times, ends)]


def judge_combined(world: CombineWorld) -> None:
    """Each event is in one command of each flow, and those are what their times say."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    command_ids = []
    for entry in world.broker.logs[TopicPartition(RESULTS, 0)].committed():
        data = msgspec.json.decode(entry.value or b"")
        found[data["key"], data["flow"]].append(data)
        command_ids.append(dict(entry.headers)["ce_id"])
    if len(command_ids) != len(set(command_ids)):
        world.fail("two commands have one id")
    for place, log in world.broker.logs.items():
        if place.topic == LETTERS and (letters := list(log.committed())):
            world.fail(f"dead letters: {letters}")
    sent, single = sent_to(world)
    for key, events in sent.items():
        times = [at_ms for at_ms, _ in events]
        for flow in KINDS:
            commands = found[key, flow]
            told = f"{flow} of {key}, {[at - START_MS for at in times]}: {commands}"
            ids = [one for command in commands for one in _ids(command)]
            if sorted(ids) != sorted(event_id for _, event_id in events):
                world.fail(f"not each event is in one command: {told}")
            counts = sorted(command["count"] for command in commands)
            # Where the order of reading is not that of the times, the cap and the count cut
            # elsewhere; that a key is quiet is the same in any order.
            is_exact = flow == "quiet" or key in single
            if is_exact and counts != sorted(expected_of(flow, times)):
                world.fail(f"expected {expected_of(flow, times)}: {told}")
            if flow == "batch" and counts and counts[-1] > COUNT:
                world.fail(f"too many in a batch: {told}")


def _ids(command: dict[str, Any]) -> list[str]:
    if "ids" in command:
        return list(command["ids"])
    return [event["id"] for event in command["events"]]
