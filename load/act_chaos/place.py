"""Where it happens: contracts whose events trigger the flows, their topics, and the workers."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaProducer

from edo_stream.engine.act_plans import act_topics
from edo_stream.engine.admin import Admin
from edo_stream.engine.plans import wanted_topics
from edo_stream.engine.security import BrokerAccess
from edo_stream.flows import load_flows
from edo_stream.registry import load
from load.act_chaos.handlers import CRASHED, DIRECTORY, LEDGER, ONCE
from load.act_chaos.plan import FLOWS, RETRIES, TIMEOUT_S, FlowPlan
from load.field import REBALANCE_TIMEOUT_S, SESSION_TIMEOUT_S
from load.fleet import LocalWorker

PARTITIONS: Final = 4
INITIAL_MS: Final = 300
_SETTLE_S: Final = 1.0

_CONTRACT: Final = """\
name: {topic}
owner: team-chaos
description: What triggers a flow.
codec: cloudevents
partitions: {partitions}
group: {name}-events
emit: {{topic: {topic}.out}}
"""
_DECLARATION: Final = """\
name: {flow}
owner: team-chaos
description: Side effects that fail, hang and crash.
on: {topic}
group: {name}
partitions: {partitions}
action:
  {action}
  idempotency_key: command
  replay: safe
  timeout: {timeout_ms}ms
order: {order}
delivery: {delivery}
retry: {{initial: {initial_ms}ms, factor: 2, max: 10s, retries: {retries}}}
concurrency: 12
breaker: {{open: 500ms, open_max: 2s}}
letters_max: 1000
"""
_HTTP: Final = """kind: http
  url: {url}
  headers: {{X-Attempt: "{{{{ attempt }}}}", X-Command: "{{{{ id }}}}"}}
  rules: [{{codes: [409], means: business}}]"""
_PYTHON: Final = {
    "async": "kind: python\n  handler: load.act_chaos.handlers:perform",
    "thread": "kind: python\n  handler: load.act_chaos.handlers:perform_in_thread",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Names, folders and the broker of one run."""

    name: str
    """What all names begin with."""
    directory: Path
    broker: str
    url: str
    """Of the receiver of the HTTP flow."""

    @property
    def ledger(self) -> Path:
        """The file of the effects ledger."""
        return self.directory / LEDGER

    @property
    def flows(self) -> tuple[FlowPlan, ...]:
        """The flows, by the names that they have here."""
        return tuple(replace(flow, name=self.flow(flow.name)) for flow in FLOWS)

    def flow(self, name: str) -> str:
        """Name of a flow here."""
        return f"{self.name}-{name}"

    def topic(self, flow: FlowPlan) -> str:
        """Topic whose events trigger a flow."""
        return f"chaos.{flow.name}.asked"

    @property
    def environment(self) -> Mapping[str, str]:
        """Of the workers, and of commands about them."""
        return {
            "EDO_BROKER": self.broker,
            "EDO_SERVICE": self.name,
            "EDO_TOPICS": str(self.directory / "topics"),
            "EDO_SESSION_TIMEOUT_MS": str(int(SESSION_TIMEOUT_S * 1000)),
            "EDO_HEARTBEAT_INTERVAL_MS": "1000",
            "EDO_REBALANCE_TIMEOUT_MS": str(int(REBALANCE_TIMEOUT_S * 1000)),
            "EDO_TRANSACTION_TIMEOUT_MS": "10000",
            DIRECTORY: str(self.directory),
        }

    def workers(self, count: int) -> list[LocalWorker]:
        """Workers, not started yet."""
        return [
            LocalWorker(self.directory / f"worker-{number}", self.environment)
            for number in range(count)
        ]

    def prepare(self) -> None:
        """Write contracts and flows, and create their topics."""
        for name in (ONCE, CRASHED):
            (self.directory / name).mkdir(parents=True)
        (self.directory / "flows").mkdir()
        for flow in self.flows:
            self._declare(flow)
        asyncio.run(self._create_topics())

    def _declare(self, flow: FlowPlan) -> None:
        names = {"name": self.name, "topic": self.topic(flow), "partitions": PARTITIONS}
        folder = self.directory / "topics" / self.topic(flow)
        folder.mkdir(parents=True)
        (folder / "contract.yaml").write_text(_CONTRACT.format(**names), encoding="utf-8")
        text = _DECLARATION.format(
            flow=flow.name,
            action=_HTTP.format(url=self.url) if flow.kind == "http" else _PYTHON[flow.kind],
            order=flow.order.value,
            delivery=flow.delivery.value,
            timeout_ms=int(TIMEOUT_S * 1000),
            initial_ms=INITIAL_MS,
            retries=RETRIES,
            **names,
        )
        (self.directory / "flows" / f"{flow.name}.yaml").write_text(text, encoding="utf-8")

    async def _create_topics(self) -> None:
        registry = load(self.directory / "topics")
        flows = load_flows(self.directory / "flows", registry)
        app = f"{self.name}-decide"
        async with Admin(BrokerAccess(self.broker)) as admin:
            wanted = [*wanted_topics(registry, app, 1), *act_topics(flows, app, 1)]
            present = await admin.present(topic.name for topic in wanted)
            await admin.create(topic for topic in wanted if topic.name not in present)
        await asyncio.sleep(_SETTLE_S)  # For a broker that does not know of them yet.


def headers_of(number: int, flow: FlowPlan) -> Iterable[tuple[str, bytes]]:
    """Headers of an event."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", f"{flow.name}-{number}".encode()),
        ("ce_source", b"/chaos"),
        ("ce_type", b"chaos.asked"),
        ("content-type", b"application/json"),
    ]


def producer_to(broker: str) -> AIOKafkaProducer:
    """A producer that keeps the order of a partition whatever becomes of the broker."""
    return AIOKafkaProducer(
        bootstrap_servers=broker, enable_idempotence=True, request_timeout_ms=90_000, linger_ms=5
    )
