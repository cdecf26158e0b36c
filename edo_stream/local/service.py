"""What all services have in common: start, wait, stop, crash, start again on the same data."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from edo_stream.local.errors import LocalError
from edo_stream.local.jvm import Report
from edo_stream.local.ports import HOST, free_port, require_free
from edo_stream.local.process import Process, require_unused
from edo_stream.local.supervisor import LOCK, Order

_LOG_MAX_BYTES = 20_000_000


def silent(_line: str) -> None:
    """Report to nobody."""


@dataclass(frozen=True)
class Launch:
    """How one start of a service looks, once its data is prepared."""

    command: list[str]
    environment: Mapping[str, str]
    stop_signal: signal.Signals = signal.SIGTERM
    user: int | None = None
    group: int | None = None
    details: dict[str, Any] = field(default_factory=dict)


class LocalService(ABC):
    """A service that ends with this process, on data that stays.

    ``port`` is chosen once, when None is given, and kept over ``stop``, ``kill`` and ``start``.
    Detached, the service goes on when this process ends: ``process.end`` ends it then.
    """

    title: ClassVar[str]
    stop_timeout_s: ClassVar[float] = 20.0

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        report: Report = silent,
        is_detached: bool = False,
    ) -> None:
        self.directory = data_dir.absolute()
        self.port = port or free_port()
        self.log = self.directory / "log.txt"
        self._report = report
        self._is_detached = is_detached
        self._process: Process | None = None

    @property
    @abstractmethod
    def address(self) -> str:
        """Where clients find the service."""

    @abstractmethod
    def _prepare(self) -> Launch:
        """Make the data directory usable and say how to start."""

    @abstractmethod
    def _is_ready(self, process: Process) -> bool:
        """Tell whether clients can work with the service."""

    @property
    def pid(self) -> int | None:
        """The service's process id while it runs."""
        return self._process.pid if self._process is not None and self.is_running else None

    @property
    def is_running(self) -> bool:
        """Tell whether the service was started here and has not ended."""
        return self._process is not None and self._process.is_running

    def start(self, timeout_s: float = 90.0) -> None:
        """Start the service and wait until it is of use; harmless when it already runs.

        ``timeout_s`` does not count what the first start of all takes to load.

        Raises:
            LocalError: the port or the data is in use or unusable, or the service died.
        """
        if self.is_running:
            return
        self.launch()
        self.wait_ready(timeout_s)

    def launch(self) -> None:
        """Start the service without waiting: nodes of one quorum wait for each other."""
        # What is left of one that ended by itself.
        self.stop()
        require_unused(self.directory)
        require_free(self.port, self.title)
        self._claim_directory()
        launch = self._prepare()
        order = Order(
            service=self.title,
            address=self.address,
            command=launch.command,
            directory=str(self.directory),
            log=str(self.log),
            stop_signal=launch.stop_signal,
            stop_timeout_s=self.stop_timeout_s,
            is_detached=self._is_detached,
            user=launch.user,
            group=launch.group,
            details=launch.details,
        )
        self._process = Process(order, launch.environment)

    def _claim_directory(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            # Marks the directory as ours from the first moment, for those who clear it away.
            (self.directory / LOCK).touch()
            if self.log.exists() and self.log.stat().st_size > _LOG_MAX_BYTES:
                self.log.replace(self.log.with_suffix(".old.txt"))
        except OSError as error:
            raise LocalError(
                f"{self.directory}, for {self.title}, cannot be written: {error.strerror}"
            ) from error

    def wait_ready(self, timeout_s: float) -> None:
        """Wait for a launched service; what is not ready in time is stopped.

        Raises:
            LocalError: it ended, or took longer.
        """
        process = self._process
        assert process is not None, f"{self.title} was not launched"
        try:
            process.wait_until(lambda: self._is_ready(process), timeout_s)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the service in order; its data stays."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """End the service as a crash would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> None:
        """Stop and start on the same data and port."""
        self.stop()
        self.start()

    def detach(self) -> None:
        """Let a service started detached go on when this process ends."""
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


def host_port(port: int) -> str:
    """Write a loopback address as clients take it."""
    return f"{HOST}:{port}"
