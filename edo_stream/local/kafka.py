"""A real Apache Kafka on this machine: one node, broker and controller in one (KRaft)."""

import base64
import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from edo_stream.local.errors import LocalError
from edo_stream.local.jvm import JarSet, Report, java_command, java_environment
from edo_stream.local.ports import HOST, accepts, free_port, require_free
from edo_stream.local.process import Process
from edo_stream.local.supervisor import Order

KAFKA_VERSION = "4.1.2"
KAFKA_JARS = JarSet(
    name=f"Apache Kafka {KAFKA_VERSION}",
    coordinates=(
        f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
        f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",
        # The API version that Kafka is built with.
        "org.slf4j:slf4j-simple:1.7.36",
    ),
)
# The serial collector needs a third of the memory of G1 at this heap size and fewer threads.
HEAP_OPTIONS = ("-Xms256m", "-Xmx768m", "-XX:+UseSerialGC")
LOGGING_OPTIONS = (
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
)

_STARTED = "Kafka Server started"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_FORMAT_TIMEOUT_S = 60.0


class LocalKafka:
    """A Kafka broker that ends with this process, on data that stays.

    Once started, ``port`` is kept over ``stop``, ``kill`` and ``start``. ``settings`` are broker
    settings that come last. For several nodes give each its ``node_id``, its ``controller_port``
    and all ``voters`` (node id to controller port), and raise the replication factors.
    """

    def __init__(  # noqa: PLR0913 - each is independent and has a default
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        node_id: int = 1,
        controller_port: int | None = None,
        voters: Mapping[int, int] | None = None,
        report: Report = lambda _line: None,
        is_detached: bool = False,
    ) -> None:
        self.directory = data_dir.absolute()
        self.port = port or free_port()
        self.log = self.directory / "log.txt"
        self._settings = dict(settings or {})
        self._node_id = node_id
        self._controller_port = controller_port
        self._voters = voters
        self._report = report
        self._is_detached = is_detached
        self._process: Process | None = None

    @property
    def bootstrap(self) -> str:
        """The address for clients, ``host:port``."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return self._process.pid if self._process is not None and self.is_running else None

    @property
    def is_running(self) -> bool:
        """Tell whether the broker was started here and has not ended."""
        return self._process is not None and self._process.is_running

    def start(self, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Start the broker and wait until it serves; harmless when it already runs.

        Raises:
            LocalError: the port is taken, the data cannot be used, or the broker died.
        """
        if self.is_running:
            return
        require_free(self.port, "Kafka")
        java = java_command(KAFKA_JARS, HEAP_OPTIONS + LOGGING_OPTIONS, self._report)
        self.directory.mkdir(parents=True, exist_ok=True)
        properties = self._write_properties(self.directory / "data", "server.properties")
        self._format(java)
        self._process = Process(
            Order(
                service="kafka",
                address=self.bootstrap,
                command=[*java, "kafka.Kafka", str(properties)],
                directory=str(self.directory),
                log=str(self.log),
                stop_signal=15,
                stop_timeout_s=_STOP_TIMEOUT_S,
                is_detached=self._is_detached,
            ),
            java_environment(),
        )
        try:
            self._process.wait_until(self._is_serving, timeout_s)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the broker in order; its data stays."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """End the broker as a crash would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> None:
        """Stop and start on the same data and port."""
        self.stop()
        self.start()

    def detach(self) -> None:
        """Let a broker started with ``is_detached`` go on when this process ends."""
        if self._process is not None:
            self._process.detach()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _is_serving(self) -> bool:
        assert self._process is not None
        # The port opens before the broker has caught up with the metadata log.
        return accepts(self.port) and _STARTED in self._process.logged()

    def _write_properties(self, data: Path, name: str) -> Path:
        controller_port = self._controller_port or free_port()
        voters = self._voters or {self._node_id: controller_port}
        properties = {
            "process.roles": "broker,controller",
            "node.id": str(self._node_id),
            "controller.quorum.voters": _voters_text(voters),
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{HOST}:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(data),
            **_ONE_NODE,
            **self._settings,
        }
        path = self.directory / name
        path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        return path

    def _format(self, java: list[str]) -> None:
        """Prepare an empty data directory; aside first, so that it exists whole or not at all."""
        data = self.directory / "data"
        if (data / "meta.properties").exists():
            return
        if data.exists() and any(data.iterdir()):
            raise LocalError(
                f"{data} holds no complete Kafka data (meta.properties is missing): "
                "delete the directory to start anew"
            )
        aside = self.directory / f"data.{os.getpid()}.new"
        properties = self._write_properties(aside, f"format.{os.getpid()}.properties")
        # Known to all nodes of a quorum without asking each other.
        cluster = _cluster_id(properties.read_text() if self._voters is None else self._voters)
        tool = ("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}")
        formatted = subprocess.run(  # noqa: S603 - our own command
            [*java, *tool, "--config", str(properties)],
            capture_output=True,
            text=True,
            env=java_environment(),
            timeout=_FORMAT_TIMEOUT_S,
            check=False,
        )
        properties.unlink()
        if formatted.returncode != 0:
            raise LocalError(f"Kafka cannot use {data}: {formatted.stderr.strip()[-1000:]}")
        aside.replace(data)


def _voters_text(voters: Mapping[int, int]) -> str:
    return ",".join(f"{node}@{HOST}:{port}" for node, port in sorted(voters.items()))


def _cluster_id(seed: object) -> str:
    digest = hashlib.sha256(repr(seed).encode()).digest()[:16]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


# What one node and its tests need: no replicas to wait for, few internal partitions, quick
# groups, and nothing deleted or created unasked.
_ONE_NODE = {
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    "offsets.retention.minutes": str(10 * 365 * 24 * 60),
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "8",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # After a crash the controller waits for the old session to run out before it lets the broker
    # back in; the default of 9 s is made for networks.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "auto.create.topics.enable": "false",
    "log.retention.ms": "-1",
    # Taken from the heap at start; enough to compact half a million keys in one pass.
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
}
