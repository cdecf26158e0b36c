"""Where a source is read from when nobody has read it before."""

import time

from tests.broker.bench import Bench, events, wait_until_logged


def test_a_source_starts_at_the_earliest_the_latest_or_a_time(bench: Bench) -> None:
    earliest = bench.declare("earliest", "start: earliest")
    latest = bench.declare("latest", "start: latest")
    timed = bench.topic("timed")
    bench.declare("timed", "start: latest")
    bench.apply()
    for topic in (earliest, latest, timed):
        bench.send(topic, events("old"))
    after_old_ms = bench.read(timed)[0].timestamp + 1
    while time.time_ns() // 1_000_000 <= after_old_ms:
        pass
    bench.send(timed, events("newer"))
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(after_old_ms / 1000))
    bench.declare("timed", f"start: {at}.{after_old_ms % 1000:03d}Z")

    worker = bench.worker()
    worker.start()
    wait_until_logged(worker, "task running")
    for topic in (earliest, latest, timed):
        bench.send(topic, events("new"))

    assert bench.result_ids(earliest, 2) == ["old", "new"]
    assert bench.result_ids(latest, 1) == ["new"]
    assert bench.result_ids(timed, 2) == ["newer", "new"]


def test_latest_means_the_same_moment_after_a_crash_before_the_first_record(bench: Bench) -> None:
    topic = bench.declare("latest", "start: latest")
    bench.apply()
    bench.send(topic, events("old"))
    worker = bench.worker()
    worker.start()
    wait_until_logged(worker, "task running")

    worker.kill()
    bench.send(topic, events("while-away"))
    worker.start()

    assert bench.result_ids(topic, 1) == ["while-away"]
