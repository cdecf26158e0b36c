"""A gateway as a process, its file, and the topics that it writes to."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from edo_stream.local.process import Process
from edo_stream.local.service import Launch, LocalService
from load.gateway.requests import SECRET
from load.read import records

TOPIC: Final = "load.webhook.received"
PARTITIONS: Final = 4

_FILE: Final = """\
listen: 127.0.0.1:{port}
access_log: refused
produce_time: {produce_time}
sources:
  load:
    topic: {topic}
    verify: {{scheme: standard-webhooks, secrets: ["env:LOAD_SECRET"]}}
    key: /data/customer
    size: 64KiB
"""


class LocalGateway(LocalService):
    """A gateway process; ``environment`` adds to this process's."""

    title = "gateway"

    def __init__(
        self, data_dir: Path, environment: Mapping[str, str], topic: str, produce_time: str = "5s"
    ) -> None:
        super().__init__(data_dir)
        self._environment = dict(environment)
        self._text = _FILE.format(port=self.port, topic=topic, produce_time=produce_time)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def gateway_pid(self) -> int:
        """The gateway itself."""
        pid = self.pid
        assert pid is not None, "the gateway does not run"
        return pid

    def _prepare(self) -> Launch:
        file = self.directory / "gateway.yaml"
        file.write_text(self._text)
        command = [sys.executable, "-m", "edo_stream", "gateway", "--config", str(file)]
        environment = {**os.environ, "LOAD_SECRET": SECRET, **self._environment}
        return Launch(command, environment)

    def _is_ready(self, process: Process) -> bool:
        # In the log of this start; the one before may have said it too.
        return process.logged().count("gateway listens") > 0


async def create_topic(broker: str, topic: str) -> None:
    """Create the topic of the events."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    finally:
        await admin.close()


async def ids_on(broker: str, topic: str) -> list[str]:
    """Ids of all events on the topic."""
    access = {"bootstrap_servers": broker}
    return [
        next(value for name, value in record.headers if name == "ce_id").decode()
        async for record in records(topic, access, lambda record: True)
    ]


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def memory_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(psutil.Process(pid).memory_info().rss)


def batch_name() -> str:
    """A name that no other batch has."""
    return f"{time.time_ns():x}"
