"""A worker whose disk is full leaves, and another one goes on where it was."""

import resource
import shutil
from pathlib import Path

import pytest

from edo_stream.engine import process
from tests.broker.bench import Bench, event, log_of, wait_for, wait_until_logged

_FILE_BYTES_MAX = 128 << 10
"""Less than half of what the ids of the events take."""


def test_a_worker_whose_disk_is_full_leaves_its_partitions_to_another(bench: Bench) -> None:
    topic = bench.declare("filled")
    bench.apply()
    full, other = bench.worker("full"), bench.worker("other")
    full.start()
    wait_until_logged(full, "task running")
    assert full.pid is not None
    # No file of it may grow beyond this: RocksDB sees what it sees on a full disk.
    resource.prlimit(full.pid, resource.RLIMIT_FSIZE, (_FILE_BYTES_MAX, resource.RLIM_INFINITY))
    ids = [f"e{n}" for n in range(20_000)]
    bench.send(topic, [event(one) for one in ids])

    wait_for(lambda: not full.is_running, "the worker to leave")
    other.start()

    assert bench.result_ids(topic, len(ids)) == ids
    assert "leaving for another worker to take over" in log_of(full)


def test_a_worker_does_not_start_on_a_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = shutil.disk_usage(tmp_path).free + (1 << 30)
    monkeypatch.setattr(process, "_FREE_BYTES_MIN", needed)
    with pytest.raises(process.UnusableError, match="MiB left, and a worker needs"):
        process.claim_directory(tmp_path)
