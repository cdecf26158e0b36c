"""One gateway process: it serves until it is told to stop, answers what is under way, ends."""

import asyncio
import logging
import resource
import signal
import ssl
import sys
from collections.abc import Mapping
from typing import Any

from edo_stream.gateway.access_log import AccessLog
from edo_stream.gateway.app import Gateway
from edo_stream.gateway.backlog import Backlog, Bound
from edo_stream.gateway.declaration import Declaration, Limits
from edo_stream.gateway.documents import Documents
from edo_stream.gateway.http import Server
from edo_stream.gateway.outgoing import Writer
from edo_stream.gateway.pages import Pages

log = logging.getLogger(__name__)

_HEADROOM_BYTES = 64 << 10
_OTHER_FILES = 256
_ADMIN_LIMITS = Limits(connections=64)


class ListenError(Exception):
    """The address cannot be listened on, or its certificate not be used."""


async def run(
    declaration: Declaration,
    environ: Mapping[str, str],
    access: Mapping[str, Any],
    group: str = "",
    bounds: Mapping[str, Bound] | None = None,
) -> bool:
    """Serve until SIGTERM or SIGINT; whether all that was under way has been answered.

    ``bounds`` are of sources that are refused while the workers of ``group`` are too far behind.

    Raises:
        ListenError: see there.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    _raise_file_limit(declaration.limits.connections)
    size_max = max(source.size for source in declaration.sources.values())
    writer = Writer(access, declaration.produce_time, size_max + _HEADROOM_BYTES)
    access_log = AccessLog(declaration.access_log, _write)
    backlog = Backlog(access, group, bounds) if bounds else None
    gateway = Gateway(declaration, environ, writer, Documents(), access_log)
    if backlog is not None:
        gateway.heed(backlog)
    servers = []
    try:
        servers = await _listen(declaration, gateway)
        await stopped.wait()
        log.info("gateway is stopping: %d records under way", writer.under_way)
        patience_s = declaration.drain_time / 1_000
        is_answered = await servers[0].drain(patience_s)
    finally:
        # Samples of refusals, and what belongs to requests whose senders have left.
        await writer.close(1.0)
        for server in servers[1:]:
            await server.drain(0.2)
        await gateway.close()
        if backlog is not None:
            await backlog.close()
        access_log.close()
    log.info("gateway has stopped")
    return is_answered


async def _listen(declaration: Declaration, gateway: Gateway) -> list[Server]:
    more: dict[str, Any] = {"reuse_port": True} if declaration.reuse_port else {}
    if declaration.tls is not None:
        more["ssl"] = _tls(declaration.tls.certificate, declaration.tls.key)
        more["ssl_handshake_timeout"] = declaration.limits.header_time / 1_000
    server = Server(gateway, declaration.limits)
    servers = [server]
    gateway.serve(server, shows_pages=declaration.admin is None)
    host, port = declaration.listen
    try:
        port = await server.listen(host, port, **more)
        log.info("gateway listens: %s:%d, sources %s", host, port, ", ".join(declaration.sources))
        if declaration.admin is not None:
            pages = Server(Pages(gateway.page), _ADMIN_LIMITS)
            servers.append(pages)
            host, port = declaration.admin
            log.info("pages: %s:%d", host, await pages.listen(host, port))
    except OSError as error:
        raise ListenError(f"{host}:{port} cannot be listened on: {error.strerror}") from error
    return servers


def _raise_file_limit(connections: int) -> None:
    """Have room for all connections; what the system does not allow is said."""
    wanted = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("open files: %d allowed, %d wanted for limits.connections", allowed, wanted)


def _tls(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ListenError(f"tls: {certificate} with {key}: {error}") from error
    return context


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
