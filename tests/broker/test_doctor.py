"""`edo doctor`: what is missing, what is out of reach, and what to do about it."""

import asyncio
import json
import time
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from click.testing import Result
from typer.testing import CliRunner

from edo_stream.cli.main import app
from edo_stream.core.correlation.rows import FLOW, FlowRow
from edo_stream.core.saga.pipeline import VersionRow
from edo_stream.engine.group_topics import state_changelog
from tests.broker.bench import Bench

_WAITS = """\
name: {name}
owner: team-tests
description: Waits for two events of a key.
when:
  all:
    a: {{topic: {topic}, where: data.id == "a"}}
    b: {{topic: {topic}, where: data.id == "b"}}
  within: 1h
  group: {group}
  partitions: {n}
group: {name}
partitions: 2
action: {{kind: noop, idempotency_key: command, replay: safe}}
"""


def run(bench: Bench, *arguments: str, **environment: str) -> Result:
    """`edo doctor` in this process, which is quicker than another."""
    return CliRunner().invoke(app, ["doctor", *arguments], env={**bench.environment, **environment})


def checks(bench: Bench, **environment: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Exit code, and what was found other than right, by area."""
    told = run(bench, "--json", **environment)
    report = json.loads(told.stdout)
    assert (told.exit_code == 0) == report["ok"]
    areas: dict[str, list[dict[str, Any]]] = {}
    for check in report["checks"]:
        if check["verdict"] != "ok":
            assert check["advice"], check
            areas.setdefault(check["area"], []).append(check)
    return told.exit_code, areas


async def send_from_the_future(broker: str, topic: str) -> None:
    ahead_ms = time.time_ns() // 1_000_000 + 1_800_000
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"{}", partition=0, timestamp_ms=ahead_ms)
    finally:
        await producer.stop()


def test_doctor_says_what_is_wrong_and_what_to_do(bench: Bench) -> None:
    topic = bench.declare("checked", partitions=2)
    status, found = checks(bench)
    assert 1 == status
    missing = [one for one in found["topics"] if one["verdict"] == "problem"]
    assert {f"{topic} is missing", f"{topic}.out is missing"} <= {one["found"] for one in missing}
    assert "edo topics apply" in missing[0]["advice"]

    bench.apply()
    status, found = checks(bench)
    assert 0 == status
    assert ["no worker is in group"] == [one["found"][:21] for one in found["workers"]]

    asyncio.run(send_from_the_future(bench.broker, topic))
    bench.declare("checked", "retention: 1d", partitions=4)
    status, found = checks(bench)
    assert 1 == status
    assert [f"records from the future in {topic}"] == [one["found"] for one in found["clocks"]]
    assert any("has 2 partitions" in one["found"] for one in found["topics"])
    told = run(bench).stdout
    assert "records from the future" in told


def test_doctor_knows_the_topics_of_flows_that_wait(bench: Bench) -> None:
    topic, group = bench.declare("waited-for"), f"{bench.name}-tasks"
    bench.apply()
    flow = bench.root / "flows" / f"{bench.name}-pair.yaml"
    flow.parent.mkdir()

    def declare(partitions: int) -> None:
        flow.write_text(_WAITS.format(name=flow.stem, topic=topic, group=group, n=partitions))

    declare(2)
    assert 0 == bench.edo("topics", "apply").returncode
    status, found = checks(bench)
    assert (0, []) == (status, found.get("topics", []))
    declare(4)
    status, found = checks(bench)
    assert 1 == status
    told = [one["found"] for one in found["topics"] if one["verdict"] == "problem"]
    assert any(one.startswith(f"edo.joins.{group}: has 2 partitions") for one in told), told


SAGA = """\
name: ship
version: {version}
owner: team-tests
description: Ships.
group: {group}
on: {topic}
steps: [{{name: a, action: {{kind: noop, idempotency_key: command, replay: safe}}}}]
"""


WAITING = """\
name: ship
owner: team-tests
description: Ships.
when:
  all: {{a: {{topic: {topic}}}, b: {{topic: {topic}, match: {{data: {{b: [1]}}}}}}}}
  within: 1d
action: {{kind: noop, idempotency_key: command, replay: safe}}
"""


async def remember(broker: str, topic: str, key: bytes, row: Any) -> None:
    """Write a row of state, as two tasks do."""
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    await producer.start()
    try:
        value = msgspec.msgpack.encode(row)
        for partition in (0, 1):
            await producer.send_and_wait(topic, value, key=key, partition=partition)
    finally:
        await producer.stop()


def test_doctor_says_what_waits_for_flows_that_are_gone(bench: Bench) -> None:
    topic = bench.declare("checked", partitions=2)
    (bench.root / "flows").mkdir()
    (bench.root / "flows" / "ship.yaml").write_text(WAITING.format(topic=topic))
    assert 0 == bench.edo("topics", "apply").returncode
    changelog = state_changelog(bench.app, "joins")
    for flow, row in (
        ("ship", FlowRow(open=1, held=1)),
        ("over", FlowRow(fired=1)),
        ("left", FlowRow(open=1, held=2)),
        ("owed", FlowRow(open=1, held=3, is_owed=True)),
    ):
        asyncio.run(remember(bench.broker, changelog, FLOW + flow.encode(), row))
    status, found = checks(bench)
    assert (1, ["4 events wait for flow left,", "6 events wait for flow owed,"]) == (
        status,
        [one["found"].partition(" which")[0] for one in found["flows"]],
    )
    assert ["warning", "problem"] == [one["verdict"] for one in found["flows"]]


def test_doctor_says_that_instances_run_what_no_file_has(bench: Bench) -> None:
    topic = bench.declare("checked", partitions=2)
    folder = bench.root / "flows" / "sagas"
    folder.mkdir(parents=True)
    file, group = folder / "ship.yaml", "sagas"
    file.write_text(SAGA.format(version=2, group=group, topic=topic))
    assert 0 == bench.edo("topics", "apply").returncode
    _, found = checks(bench)
    assert "sagas" not in found

    changelog = state_changelog(bench.app, group)
    row = VersionRow("digest", running=2)
    asyncio.run(remember(bench.broker, changelog, b"vship\x001", row))
    status, found = checks(bench)
    told = "4 instances of saga ship, version 1, are remembered, and no file has it"
    assert (1, [("problem", told)]) == (
        status,
        [(one["verdict"], one["found"]) for one in found["sagas"]],
    )
    file.unlink()
    status, found = checks(bench)
    assert (0, [("warning", told)]) == (
        status,
        [(one["verdict"], one["found"]) for one in found["sagas"]],
    )
    assert f"delete the topic {changelog}" in found["sagas"][0]["advice"]


def test_doctor_says_that_nobody_answers(bench: Bench) -> None:
    bench.declare("checked")
    status, found = checks(bench, EDO_BROKER="127.0.0.1:1")
    assert 3 == status
    assert ["nobody answers at 127.0.0.1:1"] == [one["found"] for one in found["broker"]]


def test_doctor_says_all_mistakes_of_files_and_settings(bench: Bench) -> None:
    bench.declare("checked", "ordering: {policy: fifo}", "retention: 3 weeks")
    status, found = checks(bench)
    assert (1, 2) == (status, len(found["contracts"]))
    status, found = checks(bench, EDO_BATCH_RECORDS_MAX="0", EDO_REPLICATION="ten")
    assert (1, 2) == (status, len(found["settings"]))


async def checks_beside(bench: Bench, group: str, topic: str) -> list[dict[str, Any]]:
    """What doctor says of services while a member of another one's group reads a topic."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bench.broker, group_id=group, enable_auto_commit=False
    )
    await consumer.start()
    try:
        await consumer.getmany(timeout_ms=100)
        await consumer.commit({TopicPartition(topic, 0): 0})
        _, found = await asyncio.to_thread(checks, bench)
    finally:
        await consumer.stop()
    return found.get("services", [])


def test_doctor_says_which_other_service_reads_the_same_topics(bench: Bench) -> None:
    topic = bench.declare("checked", partitions=2)
    assert 0 == bench.edo("topics", "apply").returncode
    group, control = f"beside-{bench.app}", f"edo.control.{bench.name}"
    [told] = asyncio.run(checks_beside(bench, group, control))
    assert told["verdict"] == "problem"
    assert f"workers of {group} read {control} as well" in told["found"]
    # A group without members is what a service leaves that has another name now.
    _, found = checks(bench)
    assert "services" not in found
    # The topic of facts itself is anybody's to read.
    assert [] == asyncio.run(checks_beside(bench, f"reader-{bench.app}", topic))
