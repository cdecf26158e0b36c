"""A real Apache Kafka on this machine: one node, broker and controller in one (KRaft)."""

import base64
import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from edo_stream.local.errors import LocalError
from edo_stream.local.jvm import JarSet, Report, java_command, java_environment, write_properties
from edo_stream.local.ports import HOST, accepts, free_port
from edo_stream.local.process import Process
from edo_stream.local.service import Launch, LocalService, host_port, silent

KAFKA_VERSION = "4.1.2"
KAFKA_JARS = JarSet(
    name=f"Apache Kafka {KAFKA_VERSION}",
    coordinates=(
        f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
        f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",
        # Of the API version that Kafka is built with.
        "org.slf4j:slf4j-simple:1.7.36",
    ),
)
LOGGING_OPTIONS = (
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
)

# At this heap size the serial collector takes less memory and fewer threads than G1.
_JAVA_OPTIONS = ("-Xms256m", "-Xmx768m", "-XX:+UseSerialGC", *LOGGING_OPTIONS)
_STARTED = "Kafka Server started"
_FORMAT_TIMEOUT_S = 60.0


class LocalKafka(LocalService):
    """A Kafka broker.

    ``settings`` are broker settings that come last. For several nodes give each its ``node_id``,
    its ``controller_port`` and all ``voters`` (node id to controller port), raise the replication
    factors, ``launch`` all and then ``wait_ready`` for each.
    """

    title = "Kafka"

    def __init__(  # noqa: PLR0913 - independent settings, each with a default
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        node_id: int = 1,
        controller_port: int | None = None,
        voters: Mapping[int, int] | None = None,
        report: Report = silent,
        is_detached: bool = False,
    ) -> None:
        super().__init__(data_dir, port, report=report, is_detached=is_detached)
        self._settings = dict(settings or {})
        self._node_id = node_id
        self._controller_port = controller_port
        self._voters = voters

    @property
    def bootstrap(self) -> str:
        """The address for clients, ``host:port``."""
        return host_port(self.port)

    @property
    def address(self) -> str:
        """Where clients find the broker."""
        return self.bootstrap

    def _prepare(self) -> Launch:
        java = java_command(KAFKA_JARS, _JAVA_OPTIONS, self._report)
        data = self.directory / "data"
        if not _is_formatted(data):
            self._format(java, data)
        properties = self._write_properties(data, "server.properties")
        return Launch([*java, "kafka.Kafka", str(properties)], java_environment())

    def _is_ready(self, process: Process) -> bool:
        # The port opens before the broker has caught up with the metadata log.
        return accepts(self.port) and _STARTED in process.logged()

    def _format(self, java: list[str], data: Path) -> None:
        """Write the identity of an empty node: aside first, so that it is there whole or not."""
        aside = data.with_suffix(".new")
        shutil.rmtree(aside, ignore_errors=True)
        properties = self._write_properties(aside, "format.properties")
        # All nodes of a quorum derive the same; a node alone is told from any other.
        seed = properties.read_text() if self._voters is None else _voters_text(self._voters)
        tool = ("kafka.tools.StorageTool", "format", f"--cluster-id={_cluster_id(seed)}")
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
            raise LocalError(f"Kafka cannot prepare {data}: {formatted.stderr.strip()[-1000:]}")
        aside.replace(data)

    def _write_properties(self, data: Path, name: str) -> Path:
        controller_port = self._controller_port or free_port()
        properties = {
            "process.roles": "broker,controller",
            "node.id": str(self._node_id),
            "controller.quorum.voters": _voters_text(
                self._voters or {self._node_id: controller_port}
            ),
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{host_port(controller_port)}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(data),
            **_ONE_NODE,
            **self._settings,
        }
        path = self.directory / name
        write_properties(path, properties)
        return path


def _is_formatted(data: Path) -> bool:
    if (data / "meta.properties").exists():
        return True
    if data.exists() and any(data.iterdir()):
        raise LocalError(
            f"{data} holds no complete Kafka data (meta.properties is missing): "
            "delete the directory to start anew"
        )
    return False


def _voters_text(voters: Mapping[int, int]) -> str:
    return ",".join(f"{node}@{HOST}:{port}" for node, port in sorted(voters.items()))


def _cluster_id(seed: str) -> str:
    digest = hashlib.sha256(seed.encode()).digest()[:16]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


# What one node and its tests need: no replicas to wait for, few internal partitions, quick
# groups, and nothing deleted or created unasked.
_ONE_NODE = {
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    "offsets.retention.minutes": str(10 * 365 * 24 * 60),
    # As small as may be: compacted soon, they are soon loaded when the only broker comes back.
    # It is elected twice then, and Kafka 4.1 mixes up two loads of which the first takes longer
    # than a second (docs/faults.md).
    "offsets.topic.segment.bytes": str(1024 * 1024),
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
