"""A standby takes over from a killed worker: at once, without a restore, and nothing shows."""

import asyncio
import json
import re
import urllib.request
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition

from edo_stream.engine.admin import Admin, Wanted
from edo_stream.engine.changelog import BrokerFollower
from edo_stream.engine.ports import ChangelogRecord
from edo_stream.engine.security import BrokerAccess
from load.fleet import LocalWorker
from tests.broker.bench import (
    PATIENCE_S,
    Bench,
    Sent,
    event,
    log_of,
    wait_for,
    wait_until_logged,
)

KEYS = 300
ROUNDS = 8
LAST_ROUND_KEYS = 40


def burst(number: int, keys: int) -> list[Sent]:
    """The next event of each key, over two partitions."""
    return [event(f"{key}/{number}", f"k{key}", number, key % 2) for key in range(keys)]


def seen(worker: LocalWorker) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{worker.port}/status", timeout=PATIENCE_S) as answer:
        told: dict[str, Any] = json.load(answer)
        return told


def has_taken_over(worker: LocalWorker) -> bool:
    """Whether it works on both partitions."""
    told = seen(worker)
    phases = [task["phase"] for task in told["tasks"]]
    return (phases, told["standbys"]) == (["running"] * 2, [])


def is_warm(worker: LocalWorker) -> bool:
    """Whether it works on one partition and has all of the other's state."""
    told = seen(worker)
    return [task["phase"] for task in told["tasks"]] == ["running"] and [
        standby["lagRecords"] for standby in told["standbys"]
    ] == [0]


def test_the_standby_of_a_killed_worker_takes_over_without_a_restore(bench: Bench) -> None:
    source = bench.declare("warm", "ordering: {policy: sequence, start: 1}", partitions=2)
    bench.apply()
    first, second = (bench.worker(name, EDO_STANDBYS="1") for name in ("first", "second"))
    for worker in (first, second):
        worker.launch()
    for worker in (first, second):
        worker.wait_ready(PATIENCE_S)
    wait_for(lambda: all(len(seen(w)["standbys"]) == 1 for w in (first, second)), "standbys")

    for number in range(1, ROUNDS + 1):
        bench.send(source, burst(number, KEYS))
    bench.results(source, ROUNDS * KEYS)
    wait_for(lambda: is_warm(first) and is_warm(second), "warm standbys")
    shown = bench.edo("status", "--worker", f"http://127.0.0.1:{second.port}")
    bench.send(source, burst(ROUNDS + 1, LAST_ROUND_KEYS))
    first.kill()
    results = bench.results(source, ROUNDS * KEYS + LAST_ROUND_KEYS)

    assert "following" in shown.stdout
    causes = [dict(result.headers)["ce_causationid"].decode() for result in results]
    assert len(causes) == len(set(causes))
    for key in range(KEYS):
        rounds = ROUNDS + (key < LAST_ROUND_KEYS)
        own = [cause for cause in causes if cause.partition("/")[0] == str(key)]
        assert [f"{key}/{number}" for number in range(1, rounds + 1)] == own
    # The one that was killed may have done the last round before it: then nothing waits for this.
    wait_for(lambda: has_taken_over(second), "both tasks with the other worker")
    # What the worker took over had thousands of changelog records.
    restored = re.findall(r"task running: \S+: (\d+) changelog records restored", log_of(second))
    assert all(int(records) <= LAST_ROUND_KEYS for records in restored)


def test_a_worker_that_starts_before_the_last_one_has_left_gets_its_disks(bench: Bench) -> None:
    source = bench.declare("kept", "ordering: {policy: sequence, start: 1}")
    bench.apply()
    last, next_ = bench.worker("last"), bench.worker("next")
    (bench.root / "next").mkdir()
    (bench.root / "next" / "state").symlink_to(bench.root / "last" / "state")
    last.start()
    bench.send(source, [event(f"{key}/1", f"k{key}", 1) for key in range(KEYS)])
    bench.results(source, KEYS)

    next_.launch()
    wait_until_logged(next_, "is in use by another worker")
    last.stop()
    next_.wait_ready(PATIENCE_S)
    bench.send(source, [event(f"{key}/2", f"k{key}", 2) for key in range(KEYS)])

    causes = bench.result_ids(source, 2 * KEYS)
    assert sorted(causes) == sorted(f"{key}/{n}" for key in range(KEYS) for n in (1, 2))
    assert "0 changelog records restored" in log_of(next_)
    assert "disk wiped" not in log_of(next_)


def test_a_worker_with_a_name_that_is_restarted_at_once_moves_nothing(bench: Bench) -> None:
    source = bench.declare("named", partitions=2)
    bench.apply()
    # However long its start takes: only a session that ends makes the group move anything.
    bench.environment |= {"EDO_SESSION_TIMEOUT_MS": "120000", "EDO_REBALANCE_TIMEOUT_MS": "120000"}
    first, second = (
        bench.worker(name, EDO_INSTANCE=name, EDO_STANDBYS="1") for name in ("first", "second")
    )
    for worker in (first, second):
        worker.launch()
    for worker in (first, second):
        worker.wait_ready(PATIENCE_S)
    bench.send(source, burst(1, KEYS))
    bench.results(source, KEYS)
    wait_for(lambda: is_warm(first) and is_warm(second), "warm standbys")
    before = seen(second)
    began = log_of(second).count("task running")

    first.kill()
    first.start()
    bench.send(source, burst(2, KEYS))
    bench.results(source, 2 * KEYS)
    wait_for(lambda: is_warm(first) and is_warm(second), "warm standbys again")

    after = seen(second)
    places = [[task["partition"] for task in told["tasks"]] for told in (before, after)]
    assert places[0] == places[1]
    assert log_of(second).count("task running") == began
    assert log_of(first).count("disk wiped") == 0


async def next_records(follower: BrokerFollower) -> list[ChangelogRecord]:
    """What comes next, or nothing, when the reader knows that it has read to the end."""
    while True:
        (grown,) = (await follower.next(100)).values()
        if grown.records or grown.position == grown.end:
            return list(grown.records)


def test_a_reader_of_standbys_reads_what_is_committed_and_nothing_else(bench: Bench) -> None:
    place = TopicPartition(bench.topic("changelog"), 0)

    async def run() -> None:
        async with Admin(BrokerAccess(bench.broker)) as admin:
            await admin.create([Wanted(place.topic, 1)])
        producer = AIOKafkaProducer(bootstrap_servers=bench.broker, transactional_id=bench.name)
        follower = BrokerFollower(BrokerAccess(bench.broker))
        await producer.start()
        try:
            await producer.begin_transaction()
            await producer.send_and_wait(place.topic, b"undecided", b"a", partition=0)
            await follower.follow({place: 0})
            assert await next_records(follower) == []
            await producer.abort_transaction()
            await producer.begin_transaction()
            await producer.send_and_wait(place.topic, b"committed", b"b", partition=0)
            await producer.commit_transaction()
            while not (records := await next_records(follower)):
                pass
            # Behind the record and the marker of what was aborted.
            assert records == [ChangelogRecord(2, b"b", b"committed")]
        finally:
            await follower.close()
            await producer.stop()

    asyncio.run(run())
