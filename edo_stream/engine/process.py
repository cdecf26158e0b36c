"""What a worker needs of its process and machine before it starts."""

import asyncio
import ctypes
import fcntl
import gc
import logging
import os
import resource
import shutil
import socket
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

#: With less, a worker would take partitions over only to leave again.
_FREE_BYTES_MIN = 32 << 20
_LEAVER_POLL_S = 0.1
_FILES_OF_A_WORKER = 128
#: Connections of a task's producer, and files of its two RocksDBs.
_FILES_OF_A_TASK = 24

#: Records in hand are hundreds of thousands of objects, none of them in cycles, and looking for
#: cycles among them was the largest cost of an event. So the collector looks by the clock, and by
#: count only where there is more than records in hand account for.
_GC_THRESHOLD = 500_000
GC_EVERY_S = 2.0

#: Of glibc's ``mallopt``. By default it gives buffers as large as batches back to the system when
#: they are freed, and the next batch pays for each of their pages again.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_TRIM_BYTES = 64 << 20
_MMAP_BYTES = 16 << 20


def prepare_process(tasks_max: int) -> None:
    """Raise the limit of open files to what all tasks may need, and tune the use of memory."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 100)
    _keep_freed_memory()
    needed = _FILES_OF_A_WORKER + tasks_max * _FILES_OF_A_TASK
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        reachable = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
        if reachable < needed:
            log.warning(
                "open files are limited to %d, but %d tasks on this worker may need %d: raise "
                "the limit (ulimit -n)",
                reachable,
                tasks_max,
                needed,
            )


def _keep_freed_memory() -> None:
    """Have the C library keep what a batch frees for the next one, where it is glibc."""
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)


def collect_cycles() -> None:
    """Look for cycles among what is young; call it every :data:`GC_EVERY_S` seconds."""
    gc.collect(1)


class UnusableError(Exception):
    """Something that the worker needs is taken or cannot be used; says what, and what to do."""


class TakenError(UnusableError):
    """Another process has it now, and may be about to leave."""


async def claim_directory_of_a_leaver(directory: Path, patience_s: float) -> int:
    """Do as :func:`claim_directory`, and give a worker that is stopping time to leave.

    In a rolling restart the next worker may start on the same disk before the last one has ended.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    has_said_so = False
    while True:
        try:
            return claim_directory(directory)
        except TakenError as error:
            if loop.time() >= deadline:
                raise
            if not has_said_so:
                log.warning("waiting %.0f s at most: %s", patience_s, error)
                has_said_so = True
        await asyncio.sleep(_LEAVER_POLL_S)


def claim_directory(directory: Path) -> int:
    """Lock a worker's data directory for as long as the process lives; returns the lock.

    Raises:
        TakenError: another worker has it.
        UnusableError: it cannot be written, or is full.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / "worker.lock", os.O_RDWR | os.O_CREAT, 0o644)
        free_bytes = shutil.disk_usage(directory).free
    except OSError as error:
        raise unwritable(directory, error) from error
    if free_bytes < _FREE_BYTES_MIN:
        os.close(lock)
        raise UnusableError(
            f"{directory} has {free_bytes >> 20} MiB left, and a worker needs "
            f"{_FREE_BYTES_MIN >> 20}: make room, or give the worker another data directory "
            "(EDO_DATA)"
        )
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise TakenError(
            f"{directory} is in use by another worker: give each worker a data directory of its "
            "own (EDO_DATA)"
        ) from error
    return lock


def unwritable(directory: Path, error: OSError) -> UnusableError:
    """What is to be said of a data directory that cannot be made or written."""
    return UnusableError(
        f"{directory} cannot be written ({error.strerror}): give the worker another data "
        "directory (EDO_DATA)"
    )


def require_port(host: str, port: int) -> None:
    """Make sure that the web server can listen.

    Raises:
        UnusableError: the port is taken, or the address is not of this machine.
    """
    try:
        with socket.create_server((host, port)):
            return
    except OSError as error:
        raise UnusableError(
            f"the web server cannot listen on {host}:{port} "
            f"({os.strerror(error.errno or 0).lower()}): give each worker a port of its own "
            "(EDO_WEB_PORT)"
        ) from error
