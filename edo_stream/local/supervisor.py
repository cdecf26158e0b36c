"""The process between us and one service: where it stands, the service stands; where it ends, too.

It runs in a session of its own, so a Ctrl-C at the terminal reaches only the starter, which then
stops the services in order. Its standard input is a pipe from the starter: when the starter dies,
even by SIGKILL, the pipe ends and the service is stopped. Detached, there is no such pipe and this
process is the daemon. It holds a lock on the service's directory, so that no two processes ever
write the same data, and keeps the record by which others find the service.

Started as ``python -m edo_stream.local.supervisor ORDER`` with an ``Order`` as JSON; answers with
one line of JSON on standard output.
"""

import ctypes
import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

RECORD = "process.json"
LOCK = "process.lock"
_PR_SET_PDEATHSIG = 1
_PARENT_CHECK_S = 1.0


@dataclass(frozen=True)
class Order:
    """What to run, and how to end it; the environment is inherited, it may hold secrets."""

    service: str
    address: str
    command: list[str]
    directory: str
    log: str
    stop_signal: int
    stop_timeout_s: float
    is_detached: bool
    user: int | None = None
    group: int | None = None
    details: dict[str, Any] = field(default_factory=dict)


def main() -> int:
    """Run the service until it ends, is told to, or the starter is gone."""
    order = Order(**json.loads(sys.argv[1]))
    directory = Path(order.directory)
    with (directory / LOCK).open("w") as lock, Path(order.log).open("ab") as log:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _answer({"error": f"{directory} is already in use by a running {order.service}"})
        wakeup = _wake_on_signals()
        try:
            service = _start(order, log)
        except (OSError, subprocess.SubprocessError) as error:
            return _answer({"error": f"{order.service} cannot be started: {error}"})
        _write_record(order, service.pid)
        _answer({"pid": service.pid})
        try:
            _watch(order, service, wakeup)
        finally:
            _end(order, service)
            (directory / RECORD).unlink(missing_ok=True)
    return 0


def _answer(answer: dict[str, Any]) -> int:
    print(json.dumps(answer), flush=True)  # noqa: T201 - the protocol with the starter
    # The starter's end may close at any time; nothing is written there again.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    return 2 if "error" in answer else 0


def _wake_on_signals() -> int:
    """Turn signals into bytes on a pipe, so that one loop sees all there is to see."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)
    return read_end


def _start(order: Order, log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the starter's command
        order.command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=order.directory,
        user=order.user,
        group=order.group,
        extra_groups=[] if order.user is not None else None,
        # Safe: this process has one thread.
        preexec_fn=_die_with_parent(order.stop_signal),  # noqa: PLW1509
    )


def _die_with_parent(stop_signal: int) -> Callable[[], None] | None:
    """Where the system can (Linux), the service ends even when this process is killed."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, stop_signal, 0, 0, 0)

    return ask


def _write_record(order: Order, pid: int) -> None:
    """Write who runs here; start times tell our process from a later one of the same number."""
    record = {
        "service": order.service,
        "address": order.address,
        "log": order.log,
        "is_detached": order.is_detached,
        "details": order.details,
        "supervisor": _identity(os.getpid()),
        "process": _identity(pid),
    }
    path = Path(order.directory) / RECORD
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(record, indent=1))
    aside.replace(path)


def _identity(pid: int) -> dict[str, float]:
    try:
        return {"pid": pid, "created_s": psutil.Process(pid).create_time()}
    except psutil.NoSuchProcess:
        return {"pid": pid, "created_s": 0.0}


def _watch(order: Order, service: subprocess.Popen[bytes], wakeup: int) -> None:
    """Return when the service is to end or has ended."""
    starter = os.getppid()
    with selectors.DefaultSelector() as selector:
        selector.register(wakeup, selectors.EVENT_READ)
        if not order.is_detached:
            selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        while service.poll() is None:
            ready = {key.fd for key, _ in selector.select(_PARENT_CHECK_S)}
            if wakeup in ready and set(os.read(wakeup, 64)) - {signal.SIGCHLD}:
                return
            if sys.stdin.fileno() in ready and not _obey(service):
                return
            # A forked sibling may hold the starter's end of the pipe open; a new parent is proof.
            if not order.is_detached and os.getppid() != starter:
                return


def _obey(service: subprocess.Popen[bytes]) -> bool:
    """Do what the starter wrote; False when it asks to stop or its end is closed."""
    match os.read(sys.stdin.fileno(), 1):
        case b"k":
            service.kill()
            return True
        case _:
            return False


def _end(order: Order, service: subprocess.Popen[bytes]) -> None:
    if service.poll() is not None:
        return
    service.send_signal(order.stop_signal)
    try:
        service.wait(order.stop_timeout_s)
    except subprocess.TimeoutExpired:
        service.kill()
        service.wait()


def encode(order: Order) -> str:
    """Write an order as the one argument of this program."""
    return json.dumps(asdict(order))


if __name__ == "__main__":
    sys.exit(main())
