"""From a producer or a file through a contract with versions, to results and dead letters."""

import asyncio
import json
import os
import urllib.request
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord

from edo_stream.outgoing import ContractError, NotProducedError
from edo_stream.producer import Producer, Sent
from edo_stream.registry import load
from edo_stream.settings import read_settings
from tests.broker.bench import Bench, event, wait_for

SCHEMA = """\
schema:
  format: json
  versions:
    1: {note: First.}
    2: {note: The name has a better name., upcast: [rename: {/name: title}]}"""
V1 = {"required": ["name"], "properties": {"name": {"type": "string"}}}
V2 = {"required": ["title"], "properties": {"title": {"type": "string"}}}


def declare(bench: Bench, last: str, *lines: str) -> str:
    topic = bench.declare(last, SCHEMA, *lines, partitions=3)
    for name, schema in (("v1", V1), ("v2", V2)):
        (bench.contracts / topic / f"{name}.schema.json").write_text(json.dumps(schema))
    return topic


def titles(records: Sequence[ConsumerRecord]) -> list[str]:
    return sorted(json.loads(record.value)["title"] for record in records)


def produce(bench: Bench, *sends: dict[str, Any]) -> list[Sent]:
    async def send() -> list[Sent]:
        settings = read_settings({**os.environ, **bench.environment})
        producer = Producer("/test", settings=settings, registry=load(bench.contracts))
        async with producer:
            return [await producer.send(**one) for one in sends]

    return asyncio.run(send())


def test_what_is_produced_by_contract_comes_out_as_the_newest_version(bench: Bench) -> None:
    topic = declare(bench, "produced")
    bench.apply()
    sent = produce(
        bench,
        {"topic": topic, "data": {"title": "new"}, "key": "k", "id": "one", "correlation_id": "c"},
        {"topic": topic, "data": {"name": "old"}, "key": "k", "version": 1},
    )
    with pytest.raises(ContractError, match="required"):
        produce(bench, {"topic": topic, "data": {"name": "old"}, "key": "k"})
    with pytest.raises(NotProducedError, match="is not declared"):
        produce(bench, {"topic": "no.such.topic", "data": {}})
    bench.send(topic, [event("bad")])
    worker = bench.worker()
    worker.start()

    results = bench.results(topic, 2)
    assert ["new", "old"] == titles(results)
    assert {("one", "c"), (sent[1].id, sent[1].id)} == {
        (headers["ce_causationid"].decode(), headers["ce_correlationid"].decode())
        for headers in (dict(record.headers) for record in results)
    }
    [letter] = wait_for(lambda: bench.read(f"edo.dead-letters.{topic}"), "the dead letter")
    said = {name: value.decode() for name, value in letter.headers if name.startswith("edo-")}
    assert (topic, "2", "", "required") == (
        said["edo-contract"],
        said["edo-version"],
        said["edo-pointer"],
        said["edo-rule"],
    )
    with urllib.request.urlopen(f"{worker.address}/metrics") as page:
        text = page.read().decode()
    labels = f'contract="{topic}",policy="dead-letter",rule="required",version="2"'
    assert f"edo_contract_violations_total{{{labels}}} 1.0" in text


def test_a_file_is_published_whole_or_not_at_all_and_again_as_the_same(bench: Bench) -> None:
    topic = declare(bench, "published")
    bench.apply()
    file = bench.root / "events.jsonl"
    file.write_text('{"title": "a"}\n{"name": "b"}\n')
    refused = bench.edo("events", "publish", topic, str(file), "--key", "k")
    assert (1, []) == (refused.returncode, bench.read(topic))
    assert "document 2: " in refused.stderr
    assert "nothing was written" in refused.stderr

    file.write_text('{"title": "a"}\n{"title": "b"}\n{"title": "b"}\n')
    for _ in range(2):
        done = bench.edo("events", "publish", topic, str(file), "--key", "k")
        assert (0, f"3 events written to {topic}\n") == (done.returncode, done.stdout)
    told = bench.edo("events", "publish", "no.such.topic", str(file))
    assert (2, True) == (told.returncode, "is not declared" in told.stderr)
    away = bench.edo("events", "publish", topic, str(file), "--key", "k", EDO_BROKER="127.0.0.1:1")
    assert (3, "") == (away.returncode, away.stdout)

    written = bench.read(topic)
    assert ([b"k"] * 6, 3) == (
        [record.key for record in written],
        len({dict(record.headers)["ce_id"] for record in written}),
    )
    bench.worker().start()
    assert ["a", "b", "b"] == titles(bench.results(topic, 3))


def test_workers_follow_a_published_contract_without_a_restart(bench: Bench) -> None:
    first = SCHEMA[: SCHEMA.index("    2:")].rstrip()
    topic = bench.declare("evolving", first, partitions=2)
    folder = bench.contracts / topic
    (folder / "v1.schema.json").write_text(json.dumps(V1))
    bench.apply()
    worker = bench.worker()
    worker.start()
    produce(bench, {"topic": topic, "data": {"name": "before"}, "key": "k"})
    assert {"name": "before"} == json.loads(bench.results(topic, 1)[0].value)

    declare(bench, "evolving")
    contract = folder / "contract.yaml"
    contract.write_text(contract.read_text().replace("partitions: 3", "partitions: 2"))
    done = bench.edo("contracts", "publish", topic, "--json")
    told = json.loads(done.stdout)[topic]
    assert (0, [0, 1], 2) == (done.returncode, told["followed"], told["version"])
    produce(bench, {"topic": topic, "data": {"name": "after"}, "key": "k", "version": 1})
    assert {"title": "after"} == json.loads(bench.results(topic, 2)[1].value)

    with urllib.request.urlopen(f"{worker.address}/status") as page:
        tasks = json.load(page)["tasks"]
    seen = {source["contract"]: source["contractVersion"] for task in tasks for source in
        task["sources"] if source["topic"] == topic}  # fmt: skip
    assert {told["revision"]: 2} == seen
    [published] = [r for r in bench.read("edo.registry") if r.key == topic.encode()]
    assert "v2.schema.json" in json.loads(published.value)["files"]

    contract.write_text(contract.read_text() + "dedupe: off\n")
    refused = bench.edo("contracts", "publish", topic)
    assert (1, True) == (refused.returncode, "needs a restart" in refused.stdout)
