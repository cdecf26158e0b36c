"""Contracts at a real broker: planned, applied, drifted from, grown only with consent, and run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edo_stream.catalog.scaffold import PROJECT_RESULT
from edo_stream.cli.main import app
from edo_stream.local.kafka import LocalKafka
from tests.broker.bench import Bench, Sent, event, wait_for

Run = Callable[..., Result]


@pytest.fixture
def run(bench: Bench) -> Run:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["contracts", *arguments], env=bench.environment)

    return run


def steps(run: Run, verb: str) -> list[tuple[str, str, str]]:
    found = json.loads(run(verb, "--json").stdout)["steps"]
    return [(step["topic"], step["action"], step["consent"]) for step in found]


def states(result: Result) -> dict[str, str]:
    return {one["topic"]: one["state"] for one in json.loads(result.stdout)}


def of_the_test(found: list[tuple[str, str, str]], bench: Bench) -> list[tuple[str, str, str]]:
    """Without what other tests of the same broker left."""
    return [step for step in found if bench.name in step[0]]


def test_plan_then_apply_then_nothing_is_left_to_do(bench: Bench, run: Run) -> None:
    source = bench.declare("happened", "retry: {initial: 1s, retries: 2}", partitions=2)

    planned = {topic: action for topic, action, _ in steps(run, "plan")}
    assert {"create"} == {planned[topic] for topic in (source, f"{source}.out")}
    assert f"edo.retry.{bench.name}.1s" in planned
    assert f"edo.dead-letters.{source}" in planned
    assert "created" == states(run("apply", "--json"))[source]
    assert [] == steps(run, "plan")
    assert "there" == states(run("apply", "--json"))[source]


def test_partitions_grow_with_consent_only(bench: Bench, run: Run) -> None:
    source = bench.declare("happened", partitions=1)
    run("apply")
    bench.declare("happened", partitions=2)

    assert 1 == run("plan").exit_code
    assert "most keys move to another partition" in run("plan").output
    refused = run("apply", "--json")
    assert 1 == refused.exit_code
    assert "needs --allow-reshuffle" in states(refused)[source]
    grown = run("apply", "--allow-reshuffle")
    assert 0 == grown.exit_code, grown.output
    assert [] == steps(run, "plan")
    bench.declare("happened", partitions=1)
    assert "Kafka takes none away" in states(run("apply", "--json"))[source]


def test_records_are_deleted_with_consent_only(bench: Bench, run: Run) -> None:
    source = bench.declare("happened", "retention: 2d")
    run("apply")
    bench.declare("happened", "retention: 4d", "record_bytes_max: 2MiB")

    assert "configured" == states(run("apply", "--json"))[source]
    bench.declare("happened", "retention: 1d", "record_bytes_max: 2MiB")
    refused = run("apply", "--json")
    assert "needs --allow-loss" in states(refused)[source]
    assert 0 == run("apply", "--allow-loss").exit_code
    # What was set before, and is no matter of this change, stays. A broker that describes a topic
    # may have heard of a change a moment after the controller has made it.
    wait_for(lambda: [] == steps(run, "plan"), "nothing to plan")


def test_drift_names_topics_that_nobody_declares_and_deletes_them_when_named(
    bench: Bench, run: Run
) -> None:
    bench.declare("stayed")
    left = bench.declare("left")
    run("apply")
    (bench.contracts / left / "contract.yaml").unlink()
    (bench.contracts / left).rmdir()

    drifted = of_the_test(steps(run, "drift"), bench)
    assert (left, "delete", "--delete") in drifted
    assert 1 == run("drift").exit_code
    assert [] == steps(run, "plan")
    kept = run("apply", "--json", "--delete", bench.topic("stayed"))
    assert "a contract wants it" in states(kept)[bench.topic("stayed")]
    names = [topic for topic, _, _ in drifted]
    deleted = run("apply", "--json", *(part for name in names for part in ("--delete", name)))
    assert {"deleted"} == {states(deleted)[name] for name in names}
    assert [] == of_the_test(steps(run, "drift"), bench)


def test_what_commands_have_created_is_no_drift(bench: Bench, run: Run) -> None:
    bench.declare("published")
    run("apply")
    # No worker answers; the topic of published contracts is there all the same.
    assert 3 == run("publish", "--timeout", "0.1").exit_code
    assert b"published" in b"".join(record.key or b"" for record in bench.read("edo.registry"))

    assert "edo.registry" not in {topic for topic, _, _ in steps(run, "drift")}


def test_live_records_are_judged_as_workers_do(bench: Bench, run: Run) -> None:
    source = bench.declare(
        "happened", "schema: {format: json, versions: {1: {note: First.}}}", partitions=2
    )
    schema = {"type": "object", "properties": {"id": {"maxLength": 2}}}
    (bench.contracts / source / "v1.schema.json").write_text(json.dumps(schema))
    run("apply")
    bench.send(source, [event("old-and-wrong"), event("e1", partition=1), event("e2")])

    def judged(last: int) -> tuple[int, dict[str, Any]]:
        result = run("test", source, "--last", str(last), "--json")
        return result.exit_code, json.loads(result.output)[0]

    assert 0 == judged(2)[0]
    code, found = judged(10)
    assert (1, 3, 2, {"schema": 1}) == (code, found["records"], found["events"], found["reasons"])
    assert "/id" in found["shown"][0]["detail"]
    bench.send(source, [Sent(b"k", b"\xff", ())])
    assert "undecodable 1" in run("test", source).output


def test_new_project_runs_as_it_is(tmp_path: Path) -> None:
    # On a broker of its own: its topics have the names that every new project's have.
    with LocalKafka(tmp_path / "kafka") as kafka:
        bench = Bench(tmp_path, "project", {"EDO_BROKER": kafka.bootstrap})
        try:
            _run_new_project(bench, tmp_path / "project")
        finally:
            bench.close()


def _run_new_project(bench: Bench, project: Path) -> None:
    assert 0 == bench.edo("init", str(project)).returncode
    bench.environment["EDO_TOPICS"] = str(project / "topics")
    topic = "shop.order.placed"

    assert 0 == bench.edo("contracts", "lint").returncode
    assert 0 == bench.edo("contracts", "apply").returncode
    worker = bench.worker()
    worker.start()
    example = project / "topics" / topic / "examples" / "v1.first.json"
    assert 0 == bench.edo("events", "publish", topic, str(example)).returncode

    accepted = wait_for(lambda: bench.read(f"{topic}.accepted"), "the event comes out")
    confirmed = wait_for(lambda: bench.read(PROJECT_RESULT), "the flow has run")
    data = json.loads(example.read_bytes())["data"]
    assert [data] == [json.loads(one.value) for one in accepted]
    assert [data] == [json.loads(one.value) for one in confirmed]
    assert 0 == bench.edo("contracts", "test").returncode
