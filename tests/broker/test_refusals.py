"""Where a worker would lose or repeat something, it stops the task and says what to do."""

import time

import pytest

from edo_stream.engine.transport import IDLE_WAIT_MS
from load.fleet import LocalWorker
from tests.broker.bench import Bench, events, log_of, wait_for, wait_until_logged


def run_and_stop(bench: Bench, topic: str, count: int) -> None:
    worker = bench.worker()
    worker.start()
    bench.results(topic, count)
    worker.stop()


def test_a_range_lost_to_retention_needs_consent_and_is_counted(bench: Bench) -> None:
    topic = bench.declare("lost")
    bench.apply()
    bench.send(topic, events("1", "2", "3"))
    run_and_stop(bench, topic, 3)
    bench.send(topic, events("4", "5", "6"))
    bench.delete_records(topic, before=5)

    refused = bench.worker()
    refused.start()
    wait_until_logged(refused, f"EDO_ACCEPT_LOSS={topic}:0:3-5")
    assert f"task stopped: {bench.name}-0: {topic}-0: offsets 3 to 4" in log_of(refused)
    assert refused.is_running
    refused.stop()
    assert len(bench.read(f"{topic}.out")) == 3

    bench.worker(EDO_ACCEPT_LOSS=f"{topic}:0:3-5").start()
    assert bench.result_ids(topic, 4) == ["1", "2", "3", "6"]
    assert [account.lost for account in bench.accounts(topic) if account.lost] == [(3, 5)]


def test_a_range_lost_while_the_worker_runs_stops_the_task_as_well(bench: Bench) -> None:
    topic = bench.declare("running")
    bench.apply()
    bench.send(topic, events("first"))
    # It stays a member while it is frozen, for as long as a deletion takes.
    worker = bench.worker(EDO_SESSION_TIMEOUT_MS="120000", EDO_REBALANCE_TIMEOUT_MS="120000")
    worker.start()
    bench.results(topic, 1)

    for attempt in range(5):
        end = 1 + 2 * (attempt + 1)
        worker.freeze()
        # Nothing shows when the fetch that is under way has ended without a record.
        time.sleep(2 * IDLE_WAIT_MS / 1_000)
        bench.send(topic, events(f"{end}-a", f"{end}-b"))
        bench.delete_records(topic, before=end)
        worker.thaw()
        if outcome(bench, worker, topic, end) == "lost":
            break
    else:
        pytest.fail("the worker was always quicker than the deletion")

    assert f"EDO_ACCEPT_LOSS={topic}:0:{end - 2}-{end}" in log_of(worker)
    # The fetcher does not go on to ask for what is gone.
    assert log_of(worker).count("out of range") < 10
    assert "Traceback" not in log_of(worker)


def outcome(bench: Bench, worker: LocalWorker, topic: str, end: int) -> str:
    """What became of records that were deleted: one or the other, a hang is neither."""

    def look() -> str | None:
        if "EDO_ACCEPT_LOSS" in log_of(worker):
            return "lost"
        return "read" if len(bench.read(f"{topic}.out")) == end else None

    return wait_for(look, f"a loss, or {end} results, of {topic}")


def test_group_offsets_reset_from_outside_are_refused(bench: Bench) -> None:
    topic = bench.declare("reset")
    bench.apply()
    bench.send(topic, events("1", "2", "3"))
    run_and_stop(bench, topic, 3)
    bench.set_group_offset(topic, 0)

    worker = bench.worker()
    worker.start()
    wait_until_logged(worker, "stands at offset 0 but the state was written at offset 3")

    assert "task stopped" in log_of(worker)
    assert len(bench.read(f"{topic}.out")) == 3
