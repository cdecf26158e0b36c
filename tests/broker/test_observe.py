"""A worker seen from outside: pages on its port, commands, and logs without anybody's data."""

import json
import urllib.error
import urllib.request
from collections import defaultdict
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from load.fleet import LocalWorker
from tests.broker.bench import (
    PATIENCE_S,
    Bench,
    Sent,
    event,
    events,
    log_of,
    wait_for,
    wait_until_logged,
)

SECRET = "do-not-tell"
HOLD = "ordering: {policy: sequence, start: 1, on_timeout: hold}"


def page(worker: LocalWorker, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{worker.address}{path}", timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def status_of(worker: LocalWorker) -> dict[str, Any]:
    return json.loads(page(worker, "/status")[1])


def samples(worker: LocalWorker) -> dict[str, list[tuple[dict[str, str], float]]]:
    status, text = page(worker, "/metrics")
    assert status == 200
    found = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name].append((sample.labels, sample.value))
    return found


def total(worker: LocalWorker, name: str, **labels: str) -> float:
    return sum(
        value
        for found, value in samples(worker)[name]
        if all(found.get(label) == wanted for label, wanted in labels.items())
    )


def secret_events(first: int, last: int, partition: int = 0) -> list[Sent]:
    return [
        Sent(
            one.key,
            json.dumps({"card": SECRET}).encode(),
            [*one.headers, ("x-token", SECRET.encode())],
            partition,
        )
        for one in (event(f"{partition}-{n}", f"key-{n % 7}") for n in range(first, last))
    ]


def test_metrics_add_up_and_logs_tell_no_data(bench: Bench) -> None:
    topic = bench.declare("counted", partitions=2)
    bench.apply()
    for partition in (0, 1):
        sent = secret_events(0, 1_500, partition)
        bench.send(topic, [*sent, *sent[:50]])
    poison = Sent(b"k", SECRET.encode(), [("x-token", SECRET.encode())])
    bench.send(topic, [poison] * 7)

    worker = bench.worker(EDO_LOG_FORMAT="json")
    worker.start()
    wait_for(lambda: page(worker, "/readyz")[0] == 200, "readiness")
    assert page(worker, "/healthz")[0] == 200
    wait_for(lambda: total(worker, "edo_records_total", topic=topic) == 3_107, "all records")

    fates = {fate: total(worker, "edo_records_total", topic=topic, fate=fate) for fate in FATES}
    assert fates == {"emitted": 3_000, "duplicate": 100, "dead_lettered": 7}
    assert total(worker, "edo_trigger_to_ready_seconds_count", topic=topic) == 3_000
    assert total(worker, "edo_batch_records_sum") == 3_107
    assert total(worker, "edo_next_offset", topic=topic) == 3_107
    wait_for(lambda: total(worker, "edo_lag_records") == 0, "no lag")
    assert total(worker, "edo_lag_seconds") == 0
    assert total(worker, "kafka_consumergroup_lag", consumergroup=bench.app) == 0
    assert len(samples(worker)["kafka_consumergroup_lag"]) == 4
    assert total(worker, "edo_task_running") == 2
    assert total(worker, "edo_rocksdb_memory_bytes") > 0
    assert total(worker, "process_resident_memory_bytes") > 0

    told = status_of(worker)
    assert (told["app"], told["stuck"], told["unready"]) == (bench.app, [], [])
    assert [task["phase"] for task in told["tasks"]] == ["running", "running"]

    worker.stop()
    lines = [line for line in log_of(worker).splitlines() if line.startswith("{")]
    running = [one for one in map(json.loads, lines) if one.get("event") == "task running"]
    assert {one["task"] for one in running} == {f"{bench.name}-0", f"{bench.name}-1"}
    letters = [one for one in map(json.loads, lines) if one.get("event") == "dead letters"]
    assert sum(one["count"] for one in letters) == 7
    assert {(one["topic"], one["partition"]) for one in letters} == {(topic, 0)}
    assert SECRET not in log_of(worker)


FATES = ("emitted", "duplicate", "dead_lettered")


def test_a_worker_is_ready_only_when_its_tasks_have_restored(bench: Bench) -> None:
    topic = bench.declare("restored")
    bench.apply()
    bench.send(topic, secret_events(0, 2_000))
    first = bench.worker("first")
    first.start()
    bench.results(topic, 2_000)
    first.stop()

    second = bench.worker("second")
    second.start()
    seen: list[tuple[int, str]] = []

    def is_ready() -> bool:
        seen.append(page(second, "/readyz"))
        return seen[-1][0] == 200

    wait_for(is_ready, "readiness")
    assert total(second, "edo_restored_records_total") > 0
    assert total(second, "edo_restore_seconds_count") == 1
    # What is not ready says why.
    assert all(json.loads(text)["reasons"] for status, text in seen if status != 200)


def test_held_events_show_with_their_age(bench: Bench) -> None:
    topic = bench.declare("held", HOLD)
    bench.apply()
    bench.send(topic, [event(f"k-{n}", "k", n) for n in (1, 3, 4)])
    worker = bench.worker()
    worker.start()
    # Records are counted with their transaction; the buffer shows them before it has ended.
    wait_for(
        lambda: total(worker, "edo_records_total", topic=topic, fate="held") == 2,
        "two held events",
    )
    assert total(worker, "edo_held_records", topic=topic) == 2
    assert total(worker, "edo_held_oldest_seconds", topic=topic) > 0

    worker.kill()
    worker.start()
    wait_for(lambda: page(worker, "/readyz")[0] == 200, "readiness")
    assert total(worker, "edo_held_records", topic=topic) == 2
    assert total(worker, "edo_held_oldest_seconds", topic=topic) > 0
    bench.send(topic, [event("k-2", "k", 2)])
    wait_for(lambda: total(worker, "edo_settled_total", topic=topic, fate="emitted") == 2, "end")
    assert total(worker, "edo_held_records", topic=topic) == 0
    assert total(worker, "edo_held_oldest_seconds", topic=topic) == 0


def test_commands_tell_who_works_how_far_it_is_and_what_has_stopped(bench: Bench) -> None:
    topic = bench.declare("watched")
    bench.apply()
    bench.send(topic, events("1", "2", "3"))

    nobody = bench.edo("status")
    assert nobody.returncode == 1, nobody
    assert "nobody works" in nobody.stdout
    stopped = bench.edo("lag", "--json", "--window", "0.5")
    assert stopped.returncode == 1, stopped
    (one,) = [one for one in json.loads(stopped.stdout) if one["topic"] == topic]
    assert (one["committed"], one["end"], one["lag"], one["status"]) == (None, 3, 3, "STOP")
    assert one["lagMs"] > 0

    worker = bench.worker()
    worker.start()
    bench.results(topic, 3)
    well = status_without_lag(bench, worker)
    assert topic in well
    assert "running" in well
    told = json.loads(bench.edo("status", "--worker", worker.address, "--json").stdout)
    assert (told["state"], len(told["members"])) == ("Stable", 1)
    assert [topic, 0] in told["members"][0]["partitions"]
    read = bench.edo("lag")
    assert (read.returncode, read.stderr) == (0, "")
    assert "OK" in read.stdout

    worker.stop()
    bench.set_group_offset(topic, 0)
    worker.start()
    wait_until_logged(worker, "task stopped")
    status, text = page(worker, "/readyz")
    assert status == 503
    assert "stands at offset 0" in text
    assert page(worker, "/healthz")[0] == 200
    assert total(worker, "edo_task_refused") == 1
    assert total(worker, "edo_lag_records", topic=topic) == 0
    refused = bench.edo("status", "--worker", worker.address)
    assert refused.returncode == 1
    assert "has stopped" in refused.stdout
    stalled = bench.edo("lag", "--json", "--window", "0.5")
    assert stalled.returncode == 1
    assert "STALL" in stalled.stdout


def status_without_lag(bench: Bench, worker: LocalWorker) -> str:
    """What is shown once the coordinator has heard of the commit, a moment after the readers."""

    def look() -> str | None:
        told = bench.edo("status", "--worker", worker.address, "--lag-max", "0")
        assert told.stderr == ""
        return None if told.returncode else told.stdout

    return wait_for(look, "a group without lag")


def test_commands_say_in_one_line_who_does_not_answer(bench: Bench) -> None:
    bench.declare("away")
    bench.apply()
    for arguments, environment in (
        (("lag",), {"EDO_BROKER": "127.0.0.1:1"}),
        (("status",), {"EDO_BROKER": "127.0.0.1:1"}),
        (("status", "--worker", "http://127.0.0.1:1"), {}),
    ):
        ended = bench.edo(*arguments, **environment)
        assert ended.returncode == 3, ended
        assert ended.stderr.startswith("edo: no answer from ")
        assert ended.stderr.count("\n") == 1
