"""Workers as processes, to start, stop, kill and freeze: for the demo and for the chaos tests.

Each is what a user runs, ``faust -A edo_stream.app worker``, under the supervisor of the local
services: it ends with the process that started it, whatever becomes of that.
"""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from edo_stream.local.process import Process
from edo_stream.local.service import Launch, LocalService


class LocalWorker(LocalService):
    """A worker with a data directory of its own; ``environment`` adds to this process's."""

    title = "worker"
    stop_timeout_s = 30.0

    def __init__(
        self,
        data_dir: Path,
        environment: Mapping[str, str],
        app: str = "edo_stream.app",
        log_level: str = "info",
    ) -> None:
        super().__init__(data_dir)
        self._environment = dict(environment)
        self._app = app
        self._log_level = log_level

    @property
    def address(self) -> str:
        """Where its web pages are."""
        return f"http://127.0.0.1:{self.port}"

    def _prepare(self) -> Launch:
        command = [sys.executable, "-m", "faust", "-A", self._app, "worker", "-l", self._log_level]
        return Launch(
            command,
            {
                **os.environ,
                **self._environment,
                "EDO_DATA": str(self.directory / "state"),
                "EDO_WEB_PORT": str(self.port),
                "PYTHONUNBUFFERED": "1",
            },
        )

    def _is_ready(self, process: Process) -> bool:
        return "Worker ready" in process.logged()

    def freeze(self) -> None:
        """Stop it where it stands (SIGSTOP): what a long pause of the machine does."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        assert pid is not None, f"{self.directory.name} does not run"
        os.kill(pid, number)
