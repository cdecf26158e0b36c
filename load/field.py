"""What chaos is done to: brokers, perhaps a proxy before them, contracts and workers."""

import asyncio
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from edo_stream.engine.admin import Admin
from edo_stream.engine.plans import wanted_topics
from edo_stream.engine.security import BrokerAccess
from edo_stream.local.kafka import LocalKafka
from edo_stream.local.ports import free_port
from edo_stream.registry import load
from load.disks import own_disk
from load.fleet import LocalWorker
from load.proxy.server import Proxy

SESSION_TIMEOUT_S: Final = 6.0
REBALANCE_TIMEOUT_S: Final = 12.0
APP: Final = "edo-decide"
_TOPICS: Final = Path(__file__).parents[1] / "topics"
_QUORUM: Final = 3
_STATE_BYTES: Final = 256 << 20
_LOGS_BYTES: Final = 2 << 30

#: Compaction within seconds, so that restores read what it has left.
_CLEANING: Final = {"log.cleaner.backoff.ms": "1000"}
_SHORT_SEGMENTS: Final = {"segment.ms": "5000", "min.cleanable.dirty.ratio": "0.01"}
_REPLICATED: Final = {
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "min.insync.replicas": "2",
}


@dataclass(slots=True)
class Field:
    """Everything there is; harms change it, and leave it as it was."""

    directory: Path
    brokers: list[LocalKafka]
    workers: list[LocalWorker]
    environment: Mapping[str, str]
    """Of the workers."""
    proxy: Proxy | None = None
    extra: list[LocalWorker] = field(default_factory=list)
    """Workers that came later, and may go."""

    @property
    def bootstrap(self) -> str:
        """The brokers themselves, past the proxy."""
        return bootstrap_of(self.brokers)

    def recruit(self) -> LocalWorker:
        """One worker more, not started yet."""
        worker = LocalWorker(self.directory / f"extra-{len(self.extra)}", self.environment)
        self.extra.append(worker)
        return worker


def bootstrap_of(brokers: list[LocalKafka]) -> str:
    """Where clients find the cluster."""
    return ",".join(broker.bootstrap for broker in brokers)


@contextmanager
def open_field(
    directory: Path, brokers: int, workers: int, proxied: bool, seed: int
) -> Iterator[Field]:
    """Start all of it; it ends with the block."""
    # Workers have a directory of their own to run in.
    directory = directory.resolve()
    with ExitStack() as stack:
        cluster = _cluster(directory, brokers)
        for broker in cluster:
            own_disk(broker.directory, _LOGS_BYTES, stack)
            stack.callback(broker.stop)
            broker.launch()
        for broker in cluster:
            broker.wait_ready(90.0)
        bootstrap = bootstrap_of(cluster)
        proxy = stack.enter_context(Proxy(bootstrap, seed)) if proxied else None
        topics = _contracts(directory / "topics", replication=len(cluster))
        environment = {
            "EDO_BROKER": proxy.bootstrap if proxy else bootstrap,
            "EDO_TOPICS": str(topics),
            "EDO_REPLICATION": str(len(cluster)),
            "EDO_SESSION_TIMEOUT_MS": str(int(SESSION_TIMEOUT_S * 1000)),
            "EDO_HEARTBEAT_INTERVAL_MS": "1000",
            "EDO_REBALANCE_TIMEOUT_MS": str(int(REBALANCE_TIMEOUT_S * 1000)),
            "EDO_TRANSACTION_TIMEOUT_MS": "10000",
        }
        asyncio.run(_create_topics(topics, bootstrap, len(cluster)))
        fleet = [LocalWorker(directory / f"worker-{n}", environment) for n in range(workers)]
        place = Field(directory, cluster, fleet, environment, proxy)
        for worker in fleet:
            own_disk(worker.directory / "state", _STATE_BYTES, stack)
            stack.callback(worker.stop)
            worker.launch()
        for worker in fleet:
            worker.wait_ready(60.0)
        try:
            yield place
        finally:
            for worker in place.extra:
                worker.stop()


def _cluster(directory: Path, count: int) -> list[LocalKafka]:
    if count == 1:
        return [LocalKafka(directory / "kafka", settings=_CLEANING)]
    assert count == _QUORUM, "one broker, or three"
    voters = {node: free_port() for node in range(1, count + 1)}
    return [
        LocalKafka(
            directory / f"kafka-{node}",
            settings={**_CLEANING, **_REPLICATED},
            node_id=node,
            controller_port=port,
            voters=voters,
        )
        for node, port in voters.items()
    ]


def _contracts(directory: Path, replication: int) -> Path:
    """The project's own contract of orders, with more patience for gaps than an outage takes.

    A number that its sender cannot send for as long as the gap is waited for is skipped, and
    rightly: then what must come out would depend on the outage.
    """
    name = "shop.order.placed"
    text = (_TOPICS / name / "contract.yaml").read_text(encoding="utf-8")
    text = re.sub(r"gap_timeout: \w+", "gap_timeout: 60s", text)
    text = re.sub(r"replication: \d", f"replication: {replication}", text)
    shutil.rmtree(directory, ignore_errors=True)
    (directory / name).mkdir(parents=True)
    (directory / name / "contract.yaml").write_text(text, encoding="utf-8")
    return directory


async def _create_topics(topics: Path, bootstrap: str, replication: int) -> None:
    wanted = wanted_topics(load(topics), APP, replication)
    async with Admin(BrokerAccess(bootstrap)) as admin:
        await admin.create(
            msgspec.structs.replace(topic, config={**topic.config, **_SHORT_SEGMENTS})
            if topic.config.get("cleanup.policy") == "compact"
            else topic
            for topic in wanted
        )
