"""Start a service under its supervisor, find it again by its record, and end it.

Nothing is ever ended by number alone: the start time in the record has to match.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from edo_stream.local import supervisor
from edo_stream.local.errors import LocalError
from edo_stream.local.supervisor import RECORD, Order

_POLL_S = 0.05
_LOG_LINES = 12
# Start times are derived from the boot time, which moves a little when the clock is set.
_SAME_START_S = 2.0
# Beyond the service's own time to stop: for the supervisor to notice and to tidy up.
_SUPERVISOR_GRACE_S = 5.0


@dataclass(frozen=True)
class Found:
    """A service as its record describes it; ``processes`` are those of it that live."""

    service: str
    address: str
    log: Path
    pid: int
    is_detached: bool
    details: Mapping[str, Any]
    supervisor: psutil.Process | None
    process: psutil.Process | None

    @property
    def is_running(self) -> bool:
        """Tell whether the service itself lives."""
        return self.process is not None


class Process:
    """One service under a supervisor that this process started and owns."""

    def __init__(self, order: Order, environment: Mapping[str, str]) -> None:
        self._order = order
        self._log_start_bytes = _size(Path(order.log))
        self._supervisor = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", supervisor.__name__, supervisor.encode(order)],
            stdin=subprocess.DEVNULL if order.is_detached else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd=order.directory,
            env={**environment, "PYTHONPATH": _module_path()},
            start_new_session=True,
        )
        self.pid = self._read_answer()

    def _read_answer(self) -> int:
        assert self._supervisor.stdout is not None
        with self._supervisor.stdout as answers:
            line = answers.readline()
        answer = json.loads(line) if line else {"error": "its supervisor died"}
        if "error" in answer:
            self._close()
            raise LocalError(f"{self._order.service} did not start: {answer['error']}")
        return int(answer["pid"])

    @property
    def is_running(self) -> bool:
        """Tell whether the supervisor, and with it the service, still stands."""
        return self._supervisor.poll() is None

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait for the service to be of use.

        Raises:
            LocalError: it ended, or took longer; with the last lines of its log.
        """
        deadline_s = time.monotonic() + timeout_s
        while not is_ready():
            if not self.is_running:
                raise LocalError(f"{self._order.service} ended while starting{self._last_lines()}")
            if time.monotonic() > deadline_s:
                raise LocalError(
                    f"{self._order.service} was not ready after {timeout_s:.0f} s"
                    f"{self._last_lines()}"
                )
            time.sleep(_POLL_S)

    def logged(self) -> str:
        """Give what the service has logged since this start."""
        try:
            with Path(self._order.log).open("rb") as log:
                log.seek(self._log_start_bytes)
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def _last_lines(self) -> str:
        lines = self.logged().splitlines()[-_LOG_LINES:]
        return f"; the end of {self._order.log}:\n" + "\n".join(f"  {line}" for line in lines)

    def stop(self) -> None:
        """End the service in order; by force when it does not within its time."""
        if self._order.is_detached:
            self._supervisor.terminate()
        self._close()

    def kill(self) -> None:
        """End the service as a crash would (SIGKILL)."""
        children = _children(self.pid)
        if self._order.is_detached:
            found = find(Path(self._order.directory))
            if found is not None and found.process is not None:
                _signal(found.process, psutil.Process.kill)
            self._wait()
        elif self._supervisor.stdin is not None and self.is_running:
            with suppress(BrokenPipeError):  # It may end by itself at this moment.
                self._supervisor.stdin.write(b"k")
            self._wait()
        self._close()
        # PostgreSQL's backends notice on their own; until then the data is theirs.
        wait_gone(children, _SUPERVISOR_GRACE_S)

    def _close(self) -> None:
        if self._supervisor.stdin is not None:
            # The end of its input is the supervisor's order to stop.
            self._supervisor.stdin.close()
        self._wait()

    def _wait(self) -> None:
        try:
            self._supervisor.wait(self._order.stop_timeout_s + _SUPERVISOR_GRACE_S)
        except subprocess.TimeoutExpired:
            # The service follows it: it asked the system for that, where there is such a thing.
            self._supervisor.kill()
            self._supervisor.wait()

    def detach(self) -> None:
        """Let a daemon go on when this process ends."""
        assert self._order.is_detached, "an owned service ends with its owner"
        # Already reaped as far as this object is concerned; init reaps the daemon.
        self._supervisor.returncode = 0


def find(directory: Path) -> Found | None:
    """Read who runs, or ran, in a service's directory; None when nobody is on record.

    Raises:
        LocalError: the record cannot be read.
    """
    try:
        record = json.loads((directory / RECORD).read_text())
        return Found(
            service=record["service"],
            address=record["address"],
            log=Path(record["log"]),
            pid=int(record["process"]["pid"]),
            is_detached=record["is_detached"],
            details=record["details"],
            supervisor=_living(record["supervisor"]),
            process=_living(record["process"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LocalError(
            f"{directory / RECORD} cannot be read ({error}): look for processes by hand, "
            "then delete the file"
        ) from error


def _living(identity: Mapping[str, float]) -> psutil.Process | None:
    """Give the process only when it is the recorded one and not a later one of its number."""
    try:
        process = psutil.Process(int(identity["pid"]))
        is_same = abs(process.create_time() - identity["created_s"]) < _SAME_START_S
    except psutil.Error:
        return None
    return process if is_same and not _is_gone(process) else None


def wait_gone(processes: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait for the processes to end; give those that have not in time."""
    deadline_s = time.monotonic() + timeout_s
    still = processes
    while still := [process for process in still if not _is_gone(process)]:
        if time.monotonic() > deadline_s:
            break
        time.sleep(_POLL_S)
    return still


def _is_gone(process: psutil.Process) -> bool:
    """Tell whether it has ended: also when nobody asks for its exit code, as in containers."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def end(directory: Path, timeout_s: float) -> bool:
    """End what is on record in a directory, in order; False when nothing of it ran.

    Raises:
        LocalError: it belongs to another user, or lives on after a SIGKILL.
    """
    found = find(directory)
    if found is None:
        return False
    # The supervisor first: it ends the service the way the service wants to be ended.
    processes = [process for process in (found.supervisor, found.process) if process is not None]
    if processes:
        _signal(processes[0], psutil.Process.terminate)
        still = wait_gone(processes, timeout_s)
        for process in still:
            _signal(process, psutil.Process.kill)
        still = wait_gone(still, _SUPERVISOR_GRACE_S)
        if still:
            raise LocalError(f"{found.service} (pid {still[0].pid}) does not end")
    (directory / RECORD).unlink(missing_ok=True)
    return bool(processes)


def _signal(process: psutil.Process, send: Callable[[psutil.Process], None]) -> None:
    try:
        send(process)
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied as error:
        raise LocalError(f"process {process.pid} belongs to another user") from error


def require_unused(directory: Path) -> None:
    """Fail when a service runs on the directory, whoever started it.

    Raises:
        LocalError: it does.
    """
    found = find(directory)
    if found is not None and found.is_running:
        raise LocalError(
            f"{directory} is in use: {found.service} runs there as pid {found.pid} "
            f"at {found.address}"
        )


def _module_path() -> str:
    """Let the supervisor find this package wherever its starter did."""
    return os.pathsep.join(os.path.abspath(entry) for entry in sys.path)


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
