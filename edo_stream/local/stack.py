"""The services of `edo local` together: Kafka, and for change data capture PostgreSQL and Connect.

Each lives in its own directory below one. What was asked for is written there too, so that a
service that died is told from one that was never wanted.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edo_stream.local.connect import LocalConnect
from edo_stream.local.errors import LocalError
from edo_stream.local.jvm import Report
from edo_stream.local.kafka import LocalKafka
from edo_stream.local.ports import require_free
from edo_stream.local.postgres import LocalPostgres
from edo_stream.local.process import end, find
from edo_stream.local.service import LocalService
from edo_stream.local.supervisor import LOCK

# In the order of starting; stopping goes the other way.
SERVICES = ("kafka", "postgres", "connect")

_WANTED = "stack.json"
_UP_LOCK = "stack.lock"
_END_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Ports:
    """Where each service listens."""

    kafka: int
    postgres: int
    connect: int


@dataclass(frozen=True)
class State:
    """One service as a person wants to see it."""

    service: str
    is_running: bool
    address: str
    pid: int | None
    log: Path


class Stack:
    """The services below one directory, whoever started them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()

    def up(self, ports: Ports, with_cdc: bool, report: Report) -> list[State]:
        """Start in the background what does not run yet.

        Raises:
            LocalError: a port is taken, or a service did not start; what this call started is
                stopped again.
        """
        with self._alone():
            for service in self._start(ports, with_cdc, is_detached=True, report=report):
                service.detach()
        return self.states()

    @contextmanager
    def foreground(self, ports: Ports, with_cdc: bool, report: Report) -> Iterator[list[State]]:
        """Start what does not run yet and stop it at the end of the block, or with this process.

        Gives all that runs, also what somebody else started and what therefore goes on.

        Raises:
            LocalError: as ``up``.
        """
        with self._alone():
            started = self._start(ports, with_cdc, is_detached=False, report=report)
        try:
            yield [state for state in self.states() if state.is_running]
        finally:
            _stop(started)
            self._forget(started)

    def down(self, is_wiping: bool, report: Report) -> bool:
        """Stop what runs, in order, and with ``is_wiping`` delete its data; False when none ran.

        Raises:
            LocalError: a service does not end, or its data cannot be deleted.
        """
        ended = False
        for name in reversed(SERVICES):
            if end(self._directory / name, _END_TIMEOUT_S):
                report(f"Stopped {name}")
                ended = True
        (self._directory / _WANTED).unlink(missing_ok=True)
        if is_wiping:
            self._wipe()
        return ended

    def states(self) -> list[State]:
        """Describe what was started and not taken down."""
        return [_state(name, self._directory / name) for name in self._wanted()]

    def log(self, service: str) -> Path:
        """Say where a service writes its log."""
        assert service in SERVICES, f"{service} is none of {SERVICES}"
        return self._directory / service / "log.txt"

    def _start(
        self, ports: Ports, with_cdc: bool, *, is_detached: bool, report: Report
    ) -> list[LocalService]:
        missing = self._missing(ports, with_cdc, is_detached, report)
        # All ports before the first start: otherwise the last one taken undoes the others.
        for name, service in missing.items():
            require_free(service.port, service.title, f"choose another port with --{name}-port")
        started: list[LocalService] = []
        try:
            for name, service in missing.items():
                report(f"Starting {service.title}")
                started.append(service)
                service.start()
                self._want(name)
        except BaseException:
            _stop(started)
            raise
        return started

    def _missing(
        self, ports: Ports, with_cdc: bool, is_detached: bool, report: Report
    ) -> dict[str, LocalService]:
        services: dict[str, LocalService] = {}
        running = find(self._directory / "kafka")
        if running is not None and running.is_running:
            bootstrap = running.address
        else:
            kafka = LocalKafka(
                self._directory / "kafka", ports.kafka, report=report, is_detached=is_detached
            )
            bootstrap = kafka.bootstrap
            services["kafka"] = kafka
        if not with_cdc:
            return services
        services["postgres"] = LocalPostgres(
            self._directory / "postgres", ports.postgres, report=report, is_detached=is_detached
        )
        services["connect"] = LocalConnect(
            self._directory / "connect",
            bootstrap,
            ports.connect,
            report=report,
            is_detached=is_detached,
        )
        return {name: one for name, one in services.items() if not _is_running(one.directory)}

    def _wanted(self) -> list[str]:
        try:
            wanted = json.loads((self._directory / _WANTED).read_text())
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise LocalError(f"{self._directory / _WANTED} cannot be read: {error}") from error
        return [name for name in SERVICES if name in wanted]

    def _want(self, name: str) -> None:
        (self._directory / _WANTED).write_text(json.dumps([*self._wanted(), name]))

    def _forget(self, services: list[LocalService]) -> None:
        forgotten = {service.directory.name for service in services}
        left = [name for name in self._wanted() if name not in forgotten]
        (self._directory / _WANTED).write_text(json.dumps(left))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process at a time start services here."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            lock = (self._directory / _UP_LOCK).open("w")
        except OSError as error:
            raise LocalError(f"{self._directory} cannot be written: {error.strerror}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LocalError(f"another start in {self._directory} is not done yet") from error
            yield

    def _wipe(self) -> None:
        """Delete our directories only: a person may have pointed us at one that holds more."""
        try:
            for name in SERVICES:
                directory = self._directory / name
                if (directory / LOCK).exists():
                    shutil.rmtree(directory)
            (self._directory / _UP_LOCK).unlink(missing_ok=True)
            if self._directory.exists() and not any(self._directory.iterdir()):
                self._directory.rmdir()
        except OSError as error:
            raise LocalError(f"{error.filename} cannot be deleted: {error.strerror}") from error


def _state(name: str, directory: Path) -> State:
    found = find(directory)
    log = directory / "log.txt"
    if found is None or found.process is None:
        return State(name, is_running=False, address="", pid=None, log=log)
    return State(name, is_running=True, address=found.address, pid=found.pid, log=log)


def _is_running(directory: Path) -> bool:
    found = find(directory)
    return found is not None and found.is_running


def _stop(started: list[LocalService]) -> None:
    for service in reversed(started):
        service.stop()
