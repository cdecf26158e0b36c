"""Debezium's PostgreSQL connector on a real Kafka Connect worker on this machine."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from edo_stream.local.errors import LocalError
from edo_stream.local.jvm import JarSet, Report, java_command, java_environment, write_properties
from edo_stream.local.kafka import KAFKA_VERSION, LOGGING_OPTIONS
from edo_stream.local.ports import HOST
from edo_stream.local.process import Process
from edo_stream.local.service import Launch, LocalService, host_port, silent

# The newest Debezium that is built with this Kafka's minor version.
DEBEZIUM_VERSION = "3.4.3.Final"
CONNECT_JARS = JarSet(
    name=f"Debezium {DEBEZIUM_VERSION} on Kafka Connect {KAFKA_VERSION}",
    coordinates=(
        f"org.apache.kafka:connect-runtime:{KAFKA_VERSION}",
        f"org.apache.kafka:connect-json:{KAFKA_VERSION}",
        f"org.apache.kafka:connect-api:{KAFKA_VERSION}",
        f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",
        f"io.debezium:debezium-connector-postgres:{DEBEZIUM_VERSION}",
        "org.slf4j:slf4j-simple:1.7.36",
    ),
)

_JAVA_OPTIONS = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", *LOGGING_OPTIONS)
_REQUEST_TIMEOUT_S = 10.0
_POLL_S = 0.1
_NOT_FOUND = 404
# The worker's group is still settling.
_CONFLICT = 409


class LocalConnect(LocalService):
    """A Kafka Connect worker; connectors and their positions are kept in Kafka's topics."""

    title = "Kafka Connect"
    # Its two shutdown hooks race and now and then one waits a minute for the other. To be killed
    # instead costs nothing: what it has captured is in Kafka, in transactions.
    stop_timeout_s = 8.0

    def __init__(  # noqa: PLR0913 - independent settings, each with a default
        self,
        data_dir: Path,
        bootstrap: str,
        port: int | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        report: Report = silent,
        is_detached: bool = False,
    ) -> None:
        super().__init__(data_dir, port, report=report, is_detached=is_detached)
        self._bootstrap = bootstrap
        self._settings = dict(settings or {})

    @property
    def url(self) -> str:
        """The base address of the worker's REST interface."""
        return f"http://{host_port(self.port)}"

    @property
    def address(self) -> str:
        """Where clients find the worker."""
        return self.url

    def _prepare(self) -> Launch:
        java = java_command(CONNECT_JARS, _JAVA_OPTIONS, self._report)
        # Connectors are on the class path; the setting wants a directory all the same.
        plugins = self.directory / "plugins"
        plugins.mkdir(exist_ok=True)
        properties = {
            "bootstrap.servers": self._bootstrap,
            "listeners": self.url,
            "rest.advertised.host.name": HOST,
            "plugin.path": str(plugins),
            "plugin.discovery": "service_load",
            **_ONE_WORKER,
            **self._settings,
        }
        path = self.directory / "connect.properties"
        write_properties(path, properties)
        main = "org.apache.kafka.connect.cli.ConnectDistributed"
        return Launch([*java, main, str(path)], java_environment())

    def _is_ready(self, process: Process) -> bool:
        try:
            return isinstance(_request("GET", f"{self.url}/connectors"), list)
        except (OSError, ValueError):
            return False


def register_postgres_connector(  # noqa: PLR0913 - what the connector cannot guess
    connect_url: str,
    dsn: str,
    *,
    name: str,
    tables: Sequence[str],
    topic_prefix: str,
    slot: str | None = None,
    publication: str | None = None,
    partitions: int | None = 1,
    settings: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> None:
    """Create the connector, or change it to this, and wait until its task runs.

    ``tables`` are ``schema.table``; changes of one arrive on ``topic_prefix.schema.table``, keyed
    by its primary key, as JSON without schemas, in transactions: read them committed, and none
    comes twice. A running task may still be at its first snapshot; a worker that ends before that
    is done takes another one. ``partitions`` is for topics that Connect creates; None when all are
    there already. ``slot`` and ``publication`` are derived from ``name``. ``settings`` are
    connector settings that come last.

    Raises:
        LocalError: refused, failed, or not running in time; with the connector's own words.
    """
    identifier = "".join(letter if letter.isalnum() else "_" for letter in name.lower())
    configuration = {
        **_DEBEZIUM,
        **_database(dsn),
        "topic.prefix": topic_prefix,
        "table.include.list": ",".join(tables),
        "slot.name": slot or identifier,
        "publication.name": publication or identifier,
        **_topic_creation(partitions),
        **(settings or {}),
    }
    deadline_s = time.monotonic() + timeout_s
    connector_url = f"{connect_url}/connectors/{quote(name, safe='')}"
    _put(f"{connector_url}/config", configuration, name, deadline_s)
    _wait_running(connector_url, name, deadline_s)


def _database(dsn: str) -> dict[str, str]:
    parts = urlsplit(dsn)
    return {
        "database.hostname": parts.hostname or HOST,
        "database.port": str(parts.port or 5432),
        "database.user": parts.username or "",
        # The connector requires one, the server trusts loopback.
        "database.password": parts.password or "unused",
        "database.dbname": parts.path.lstrip("/"),
    }


def _topic_creation(partitions: int | None) -> dict[str, str]:
    if partitions is None:
        return {}
    return {
        "topic.creation.default.partitions": str(partitions),
        "topic.creation.default.replication.factor": "1",
    }


def _put(url: str, configuration: Mapping[str, str], name: str, deadline_s: float) -> None:
    while True:
        try:
            _request("PUT", url, configuration)
            return
        except urllib.error.HTTPError as error:
            if error.code == _CONFLICT and time.monotonic() < deadline_s:
                time.sleep(_POLL_S)
                continue
            raise LocalError(f"connector {name} was refused: {_reason(error)}") from error
        except OSError as error:
            raise LocalError(f"Kafka Connect does not answer at {url}: {error}") from error


def _wait_running(url: str, name: str, deadline_s: float) -> None:
    parts: list[dict[str, str]] = []
    is_restarted = False
    while time.monotonic() < deadline_s:
        parts = _states(url, name)
        failed = [part for part in parts if part["state"] == "FAILED"]
        if failed and is_restarted:
            raise LocalError(f"connector {name} failed: {_cause(failed[0].get('trace', ''))}")
        if failed:
            # Perhaps of an earlier configuration or day: what failed is not started again unasked.
            _request("POST", f"{url}/restart?includeTasks=true&onlyFailed=true")
            is_restarted = True
        elif len(parts) > 1 and all(part["state"] == "RUNNING" for part in parts):
            return
        time.sleep(_POLL_S)
    raise LocalError(f"connector {name} does not run yet; its last status: {json.dumps(parts)}")


def _states(url: str, name: str) -> list[dict[str, str]]:
    """Give the state of the connector and of each of its tasks, in this order."""
    try:
        status = _request("GET", f"{url}/status")
    except urllib.error.HTTPError as error:
        # The status is written a little after the configuration.
        if error.code in (_NOT_FOUND, _CONFLICT):
            return []
        raise LocalError(f"connector {name} has no status: {_reason(error)}") from error
    except OSError as error:
        raise LocalError(f"Kafka Connect does not answer at {url}: {error}") from error
    return [status["connector"], *status["tasks"]]


def _cause(trace: str) -> str:
    """Give what a Java trace says, without where."""
    return "\n  ".join(line for line in trace.splitlines() if not line.startswith("\tat "))


def _request(method: str, url: str, body: Mapping[str, str] | None = None) -> Any:
    assert url.startswith("http://"), url
    request = urllib.request.Request(  # noqa: S310 - http, asserted above
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
        method=method,
    )
    # Loopback is never reached through a proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_REQUEST_TIMEOUT_S) as response:
        text = response.read()
    return json.loads(text) if text else None


def _reason(error: urllib.error.HTTPError) -> str:
    with error:
        text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text or str(error)


_ONE_WORKER = {
    "group.id": "edo-connect",
    "config.storage.topic": "edo-connect-configs",
    "config.storage.replication.factor": "1",
    "offset.storage.topic": "edo-connect-offsets",
    "offset.storage.replication.factor": "1",
    "offset.storage.partitions": "1",
    "status.storage.topic": "edo-connect-status",
    "status.storage.replication.factor": "1",
    "status.storage.partitions": "1",
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "key.converter.schemas.enable": "false",
    "value.converter.schemas.enable": "false",
    "offset.flush.interval.ms": "1000",
    # A killed worker is forgotten, and its successor let in, when its session runs out.
    "session.timeout.ms": "6000",
    "heartbeat.interval.ms": "1000",
    # No other worker could take over: start the connectors at once after a restart.
    "scheduled.rebalance.max.delay.ms": "0",
    # Records and the position they came from in one transaction: nothing is captured twice.
    "exactly.once.source.support": "enabled",
}

_DEBEZIUM = {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "tasks.max": "1",
    "plugin.name": "pgoutput",
    "publication.autocreate.mode": "filtered",
    "snapshot.mode": "initial",
    "tombstones.on.delete": "true",
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "key.converter.schemas.enable": "false",
    "value.converter.schemas.enable": "false",
}
