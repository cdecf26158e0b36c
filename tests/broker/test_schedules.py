"""Schedules tick on a real broker: every second once and in order, whoever is killed."""

import json
from datetime import datetime, timedelta
from pathlib import Path

from load.fleet import LocalWorker
from tests.broker.bench import Bench, log_of, wait_for

SCHEDULE = """\
name: each-second
owner: team-tests
description: A second is over.
topic: {topic}
cron: "* * * * * *"
catch_up: {{policy: all}}
"""
RUNNING = "task running: edo.schedules-0"


def declare(bench: Bench, root: Path) -> str:
    topic = bench.declare("due", partitions=2)
    folder = root / "schedules"
    folder.mkdir()
    (folder / "each-second.yaml").write_text(SCHEDULE.format(topic=topic), encoding="utf-8")
    assert bench.edo("topics", "apply").returncode == 0
    return topic


def owner_of(workers: list[LocalWorker]) -> LocalWorker:
    """The worker that lets schedules tick; it may have taken over a moment ago."""
    return wait_for(
        lambda: next((one for one in workers if RUNNING in log_of(one)), None), "a ticker"
    )


def test_every_second_ticks_once_and_in_order_although_the_ticker_is_killed(
    bench: Bench, tmp_path: Path
) -> None:
    topic = declare(bench, tmp_path)
    workers = [bench.worker("one"), bench.worker("two")]
    for worker in workers:
        worker.start()
    first = owner_of(workers)
    wait_for(lambda: len(bench.read(topic)) >= 3, "three ticks")

    first.kill()
    workers.remove(first)
    owner_of(workers)
    seen = len(bench.read(topic))
    wait_for(lambda: len(bench.read(topic)) >= seen + 3, "more ticks")
    ticks = bench.read(topic)

    assert 1 == len({(record.partition, record.key) for record in ticks})
    numbers = [int(dict(record.headers)["ce_sequence"]) for record in ticks]
    assert list(range(1, len(ticks) + 1)) == numbers
    times = [datetime.fromisoformat(json.loads(record.value)["logicalTime"]) for record in ticks]
    seconds = [times[0] + timedelta(seconds=number) for number in range(len(ticks))]
    assert seconds == times
    assert 0 == bench.edo("audit").returncode
