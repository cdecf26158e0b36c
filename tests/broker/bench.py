"""A place of its own on the shared broker: contracts, topics, workers and commands of one test."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.structs import ConsumerRecord

from edo_stream.core.accounts import Account
from edo_stream.engine.admin import Admin
from edo_stream.engine.plans import wanted_topics
from edo_stream.engine.security import BrokerAccess
from edo_stream.registry import load
from load.fleet import LocalWorker
from load.read import records

#: Long, for machines under load: a wait ends as soon as there is what it waits for.
PATIENCE_S = 120.0
_POLL_S = 0.2

CONTRACT = """\
name: {name}
owner: team-tests
description: Something happened in a test.
codec: {codec}
partitions: {partitions}
group: {group}
emit: {{topic: {name}.out}}
{more}"""

T = TypeVar("T")
Headers = Sequence[tuple[str, bytes]]


class Sent(msgspec.Struct, frozen=True):
    """A record to send."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int = 0


def event(event_id: str, key: str = "k", number: int | None = None, partition: int = 0) -> Sent:
    """A CloudEvent in binary mode; its data are its id."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_source", b"/test"),
        ("ce_type", b"test.happened"),
        ("content-type", b"application/json"),
    ]
    if number is not None:
        headers.append(("ce_sequence", b"%d" % number))
    return Sent(key.encode(), json.dumps({"id": event_id}).encode(), headers, partition)


def events(*ids: str) -> list[Sent]:
    return [event(event_id) for event_id in ids]


def wait_for(look: Callable[[], T | None], what: str, patience_s: float = PATIENCE_S) -> T:
    """Look until there is something, and give it."""
    deadline_s = time.monotonic() + patience_s
    while True:
        if found := look():
            return found
        assert time.monotonic() < deadline_s, f"not within {patience_s:.0f} s: {what}"
        time.sleep(_POLL_S)


class Bench:
    """Contracts in a folder, their topics at the broker, and an application id of their own.

    ``name`` begins all names, so that tests share the broker and nothing else.
    """

    def __init__(self, root: Path, name: str, environment: Mapping[str, str]) -> None:
        self.root = root
        self.name = name
        self.broker = environment["EDO_BROKER"]
        self.app = f"{name}-decide"
        self.contracts = root / "topics"
        self.contracts.mkdir(exist_ok=True)
        self.environment = {
            **environment,
            "EDO_SERVICE": name,
            "EDO_TOPICS": str(self.contracts),
            "EDO_SESSION_TIMEOUT_MS": "6000",
            "EDO_HEARTBEAT_INTERVAL_MS": "1000",
        }
        self._workers: list[LocalWorker] = []

    # -- contracts and topics

    def topic(self, last: str) -> str:
        return f"{self.name}.thing.{last}"

    def declare(
        self,
        last: str,
        *lines: str,
        codec: str = "cloudevents",
        partitions: int = 1,
        group: str | None = None,
    ) -> str:
        """Write a contract; ``lines`` are YAML. Gives the topic, whose results go to ``….out``."""
        name = self.topic(last)
        folder = self.contracts / name
        folder.mkdir(exist_ok=True)
        text = CONTRACT.format(
            name=name,
            codec=codec,
            partitions=partitions,
            group=group or self.name,
            more="".join(f"{line}\n" for line in lines),
        )
        (folder / "contract.yaml").write_text(text, encoding="utf-8")
        return name

    def apply(self) -> None:
        """Create what the contracts need."""

        async def create() -> None:
            async with Admin(BrokerAccess(self.broker)) as admin:
                wanted = wanted_topics(load(self.contracts), self.app, 1)
                present = await admin.present(topic.name for topic in wanted)
                await admin.create(topic for topic in wanted if topic.name not in present)

        asyncio.run(create())

    # -- workers and commands

    def worker(
        self, name: str = "worker", log_level: str = "info", **environment: str
    ) -> LocalWorker:
        """A worker to start; its data stay with its name. It ends with the test at the latest."""
        environment = {**self.environment, **environment}
        worker = LocalWorker(self.root / name, environment, log_level=log_level)
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self._workers:
            # What a worker does when it stops is the matter of other tests, and takes seconds.
            worker.kill()

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a Python module to its end, as a user would."""
        return subprocess.run(
            [sys.executable, "-m", *command],
            env={**os.environ, **self.environment, **environment},
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def edo(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("edo_stream", *arguments, **environment)

    # -- records

    def send(self, topic: str, sent: Iterable[Sent], compression: str | None = None) -> None:
        asyncio.run(_send(self.broker, topic, sent, compression))

    def read(self, topic: str) -> list[ConsumerRecord]:
        """Committed records of now, by partition."""
        return asyncio.run(_read(self.broker, topic))

    def results(self, source: str, count: int) -> list[ConsumerRecord]:
        """Results of a source, once there are so many."""

        def look() -> list[ConsumerRecord] | None:
            found = self.read(f"{source}.out")
            return found if len(found) >= count else None

        return wait_for(look, f"{count} results of {source}")

    def result_ids(self, source: str, count: int) -> list[str]:
        """Ids of the events that the results of a source come from."""
        return [dict(r.headers)["ce_causationid"].decode() for r in self.results(source, count)]

    def accounts(self, topic: str) -> list[Account]:
        found = [
            msgspec.json.decode(record.value, type=Account) for record in self.read("edo.accounts")
        ]
        return [account for account in found if (account.app, account.topic) == (self.app, topic)]

    def delete_records(self, topic: str, before: int, partition: int = 0) -> None:
        """Do what retention does."""
        place = TopicPartition(topic, partition)
        self._administer(
            lambda admin: admin.delete_records({place: RecordsToDelete(before_offset=before)})
        )

    def add_partitions(self, topic: str, count: int) -> None:
        """Give a topic more partitions, so many in all."""
        self._administer(lambda admin: admin.create_partitions({topic: NewPartitions(count)}))

    def set_group_offset(self, topic: str, offset: int, partition: int = 0) -> None:
        """Do what ``kafka-consumer-groups --reset-offsets`` does."""

        async def commit() -> None:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.broker, group_id=self.app, enable_auto_commit=False
            )
            await consumer.start()
            try:
                place = TopicPartition(topic, partition)
                consumer.assign([place])
                await consumer.commit({place: offset})
            finally:
                await consumer.stop()

        asyncio.run(commit())

    def _administer(self, act: Callable[[AIOKafkaAdminClient], Awaitable[Any]]) -> None:
        async def run() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.broker)
            await admin.start()
            try:
                await act(admin)
            finally:
                await admin.close()

        asyncio.run(run())


def log_of(worker: LocalWorker) -> str:
    """All that a worker has logged, over its starts, without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", worker.log.read_text(errors="replace"))


def wait_until_logged(worker: LocalWorker, text: str, count: int = 1) -> None:
    wait_for(lambda: log_of(worker).count(text) >= count, f"{text!r} in {worker.log}")


#: Before compression.
_REQUEST_BYTES_MAX = 16 << 20


async def _send(broker: str, topic: str, sent: Iterable[Sent], compression: str | None) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=broker,
        enable_idempotence=True,
        compression_type=compression,
        max_request_size=_REQUEST_BYTES_MAX,
    )
    await producer.start()
    try:
        futures = [
            await producer.send(topic, one.value, one.key, one.partition, headers=list(one.headers))
            for one in sent
        ]
        await asyncio.gather(*futures)
    finally:
        await producer.stop()


async def _read(broker: str, topic: str) -> list[ConsumerRecord]:
    found = [r async for r in records(topic, {"bootstrap_servers": broker}, lambda _: True)]
    return sorted(found, key=lambda record: (record.partition, record.offset))
