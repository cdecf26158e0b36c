"""TCP ports on the loopback interface: find a free one, or say who stands in the way."""

import random
import socket

import psutil

from edo_stream.local.errors import LocalError

HOST = "127.0.0.1"
# Below the range from which systems draw the ports of outgoing connections: a port found free
# here is not lost to a client between this check, a stop and the next start.
_FREE_PORTS = range(20_000, 32_000)
_TRIES_MAX = 200

_given: set[int] = set()
"""Ports that this process was given before: who has one may not listen yet, or not just now."""


def free_port() -> int:
    """Find a port that nobody listens on; another process may still take it first.

    In one process no port is found twice.

    Raises:
        LocalError: none was found.
    """
    for port in random.sample(_FREE_PORTS, _TRIES_MAX):
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    raise LocalError(f"no free port found on {HOST} between {_FREE_PORTS[0]} and {_FREE_PORTS[-1]}")


def require_free(port: int, service: str, advice: str = "choose another port") -> None:
    """Fail before a service does, with its name, the port and, where known, who is in the way.

    Raises:
        LocalError: the port is taken, or may not be used.
    """
    if not is_free(port):
        raise LocalError(
            f"port {port} on {HOST}, wanted for {service}, is taken{_by_whom(port)}: "
            f"stop what listens there, or {advice}"
        )


def _by_whom(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            is_listener = connection.status == psutil.CONN_LISTEN and connection.pid is not None
            if is_listener and connection.laddr[1:2] == (port,):
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # Not every system shows the processes of others.
    return ""


def is_free(port: int) -> bool:
    """Tell whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose old connections linger (TIME_WAIT) is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def accepts(port: int) -> bool:
    """Tell whether something accepts connections on the port."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
