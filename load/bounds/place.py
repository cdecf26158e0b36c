"""A broker, contracts and workers of one measurement after the other."""

import asyncio
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.error import URLError

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from edo_stream.engine.act_plans import act_topics
from edo_stream.engine.admin import Admin, Wanted
from edo_stream.engine.plans import wanted_topics
from edo_stream.engine.security import BrokerAccess
from edo_stream.flows import load_flows
from edo_stream.local.kafka import LocalKafka
from edo_stream.registry import load
from load.fleet import LocalWorker
from load.plan import Planned
from load.send import Report, SendPolicy, send

PARTITIONS: Final = 4
_PATIENCE_S: Final = 600.0
_POLL_S: Final = 0.5
_OK: Final = 200
#: As often as a broker of days would look, for topics that are kept for minutes.
SETTINGS: Final = {
    "log.retention.check.interval.ms": "1000",
    "log.cleaner.backoff.ms": "1000",
    "log.segment.delete.delay.ms": "1000",
}

_CONTRACT: Final = """\
name: {topic}
owner: load
description: Something that a bound is measured with.
codec: cloudevents
partitions: {partitions}
group: {group}
{rules}
emit: {{topic: {topic}.out}}
"""


class BoundError(Exception):
    """A measurement could not be made."""


class Place:
    """Where one measurement is made: a topic with a contract, and an application id of its own."""

    def __init__(self, root: Path, kafka: LocalKafka, name: str, rules: str, partitions: int):
        self.topic = f"bounds.{name}.happened"
        self.kafka = kafka
        self.partitions = partitions
        self._root = root / name
        self._folder = self._root / "topics"
        (self._folder / self.topic).mkdir(parents=True)
        text = _CONTRACT.format(
            topic=self.topic, partitions=partitions, group=f"bounds-{name}", rules=rules
        )
        (self._folder / self.topic / "contract.yaml").write_text(text, encoding="utf-8")

    def add_flow(self, name: str, declaration: str, module: str, handler: str) -> None:
        """Declare a flow, and write the module of its handler; before :meth:`create`."""
        flows = self._root / "flows"
        flows.mkdir()
        (flows / f"{name}.yaml").write_text(declaration, encoding="utf-8")
        (self._root / f"{module}.py").write_text(handler, encoding="utf-8")

    def create(
        self, service: str, adapt: Callable[[Wanted], Wanted] = lambda wanted: wanted
    ) -> None:
        """Create the topics that are missing; ``adapt`` may change their settings."""

        async def run() -> None:
            async with Admin(BrokerAccess(self.kafka.bootstrap)) as admin:
                registry, app = load(self._folder), f"{service}-decide"
                flows = load_flows(self._root / "flows", registry)
                wanted = [*wanted_topics(registry, app, 1), *act_topics(flows, app, 1)]
                present = await admin.present(topic.name for topic in wanted)
                await admin.create(adapt(one) for one in wanted if one.name not in present)

        asyncio.run(run())

    @contextmanager
    def worker(
        self,
        service: str,
        app: str = "edo_stream.app",
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> Iterator[LocalWorker]:
        """A worker whose tasks run; it is stopped at the end of the block."""
        environment = {**self._environment(service), **settings}
        worker = LocalWorker(self._root / service, environment, app)
        worker.launch()
        try:
            worker.wait_ready(60.0)
            self.wait_until(lambda: _answers(f"{worker.address}/readyz"), "all tasks to run")
            yield worker
        finally:
            worker.stop()

    def _environment(self, service: str) -> Mapping[str, str]:
        return {
            "EDO_BROKER": self.kafka.bootstrap,
            "EDO_TOPICS": str(self._folder),
            "EDO_SERVICE": service,
        }

    def send(self, planned: Iterable[Planned]) -> Report:
        """Send records as planned.

        Raises:
            BoundError: some did not arrive.
        """
        broker = {"bootstrap_servers": self.kafka.bootstrap}
        report = asyncio.run(send(planned, self.topic, broker, SendPolicy(), lambda _: None))
        if report.failed:
            raise BoundError(f"{report.failed} records failed: {dict(report.errors)}")
        return report

    def wait_until_read(self, service: str) -> None:
        """Wait until the group has committed all that is in the topic."""
        group = f"{service}-decide"
        self.wait_until(lambda: asyncio.run(self._is_read(group)), f"{group} to read all")

    async def _is_read(self, group: str) -> bool:
        places = [TopicPartition(self.topic, number) for number in range(self.partitions)]
        asker = AIOKafkaConsumer(bootstrap_servers=self.kafka.bootstrap)
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap)
        await asker.start()
        await admin.start()
        try:
            ends = await asker.end_offsets(places)
            read = await admin.list_consumer_group_offsets(group, partitions=places)
        finally:
            await admin.close()
            await asker.stop()
        return all(read[place].offset == ends[place] for place in places if ends[place])

    def wait_until(self, look: Callable[[], bool], what: str) -> None:
        """Look until it is so.

        Raises:
            BoundError: it is not, within ten minutes.
        """
        deadline_s = time.monotonic() + _PATIENCE_S
        while not look():
            if time.monotonic() > deadline_s:
                raise BoundError(f"not within {_PATIENCE_S:.0f} s: {what}")
            time.sleep(_POLL_S)


def _answers(url: str) -> bool:
    # A worker whose tasks do not all run yet answers with 503, which is an error here too.
    with (
        suppress(URLError, TimeoutError, ConnectionError),
        urllib.request.urlopen(url, timeout=5.0) as answer,  # noqa: S310 - our own worker
    ):
        return bool(answer.status == _OK)
    return False
