"""The measurements, each with its bar."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

from edo_stream.local.kafka import LocalKafka
from load.gateway.client import Answers, Load
from load.gateway.place import TOPIC, LocalGateway, batch_name, cpu_s, ids_on, memory_bytes
from load.gateway.requests import event_id, signed_requests

REQUESTS_PER_S_BAR: Final = 8_000.0
P99_MS_BAR: Final = 50.0
SLOW_MEMORY_BAR: Final = 128 << 20
_ACCEPTED: Final = 202
_UNDER_WAY: Final = 512
_CONNECTIONS: Final = 64
_WARM: Final = 4_000
_SLOW_RATE: Final = 300.0
_DRIP_S: Final = 1.0
_AGAIN_S: Final = 90.0
"""How long what was refused is sent again, as a provider does for days."""
_PAUSE_S: Final = 0.2
_HEAD: Final = b"POST /load HTTP/1.1\r\nHost: gateway\r\nX-Slow: "


@dataclass(frozen=True, slots=True)
class Finding:
    """One measurement: what was found, what was asked for."""

    name: str
    value: str
    bar: str
    is_met: bool
    details: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


async def throughput(gateway: LocalGateway, seconds: float) -> Finding:
    """Requests a second, as many as it takes, 512 under way."""
    count = int(REQUESTS_PER_S_BAR * seconds)
    async with Load(gateway.port, _CONNECTIONS) as load:
        await load.closed_loop(signed_requests(batch_name(), _WARM), _UNDER_WAY)
        requests = signed_requests(batch_name(), count)
        before_s = cpu_s(gateway.gateway_pid)
        answers, took_s = await load.closed_loop(requests, _UNDER_WAY)
        used_s = cpu_s(gateway.gateway_pid) - before_s
    rate = answers.counts.get(_ACCEPTED, 0) / took_s
    return Finding(
        "verified requests/s, one process",
        f"{rate:,.0f}",
        f">= {REQUESTS_PER_S_BAR:,.0f}",
        rate >= REQUESTS_PER_S_BAR and [*answers.counts] == [_ACCEPTED],
        {
            "requests": count,
            "statuses": answers.counts,
            "gateway_us_per_request": round(used_s / count * 1e6, 1),
            "gateway_cores": round(used_s / took_s, 2),
            "p50_ms": round(answers.quantile(0.5), 1),
            "p99_ms": round(answers.quantile(0.99), 1),
        },
    )


async def latency(gateway: LocalGateway, rate: float, seconds: float) -> Finding:
    """p99 at a fixed rate, from when a request was due."""
    async with Load(gateway.port, _CONNECTIONS) as load:
        await load.open_loop(signed_requests(batch_name(), int(rate)), rate, 10.0)
        answers = await load.open_loop(
            signed_requests(batch_name(), int(rate * seconds)), rate, 10.0
        )
    p99 = answers.quantile(0.99)
    return Finding(
        f"p99 at {rate:,.0f} requests/s",
        f"{p99:.1f} ms",
        f"<= {P99_MS_BAR:.0f} ms",
        p99 <= P99_MS_BAR and [*answers.counts] == [_ACCEPTED],
        {
            "statuses": answers.counts,
            "p50_ms": round(answers.quantile(0.5), 1),
            "p999_ms": round(answers.quantile(0.999), 1),
            "max_ms": round(answers.quantile(1.0), 1),
        },
    )


async def slow_strangers(gateway: LocalGateway, count: int, seconds: float) -> Finding:
    """Memory, and what others notice, while many connections drip a header a byte at a time."""
    before = memory_bytes(gateway.gateway_pid)
    strangers = [asyncio.create_task(_drip(gateway.port)) for _ in range(count)]
    await asyncio.sleep(1.0)
    async with Load(gateway.port, 8) as load:
        requests = signed_requests(batch_name(), int(_SLOW_RATE * seconds))
        answers = await load.open_loop(requests, _SLOW_RATE, 10.0)
    grown = memory_bytes(gateway.gateway_pid) - before
    for task in strangers:
        task.cancel()
    closed = sum(
        result is True for result in await asyncio.gather(*strangers, return_exceptions=True)
    )
    is_served = answers.counts == {_ACCEPTED: len(requests)}
    return Finding(
        f"memory for {count:,} slow connections",
        f"+{grown / (1 << 20):.1f} MiB",
        f"<= {SLOW_MEMORY_BAR >> 20} MiB, others served",
        grown <= SLOW_MEMORY_BAR and is_served,
        {
            "statuses_of_others": answers.counts,
            "p99_ms_of_others": round(answers.quantile(0.99), 1),
            "closed_by_the_gateway": closed,
        },
    )


async def _drip(port: int) -> bool:
    """Send a header a byte a second; whether the other end has had enough of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(_HEAD)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_DRIP_S):
                    if await reader.read(1):
                        return True
            writer.write(b"x")
    except ConnectionError:
        return True
    finally:
        writer.transport.abort()


async def kills(
    gateway: LocalGateway, kafka: LocalKafka, rate: float, seconds: float, topic: str = TOPIC
) -> Finding:
    """Whether all that was acknowledged is on the topic, after kill -9 of gateway and broker.

    The gateway is killed at a third of the time and the broker at two thirds; each is started
    again at once. What was not acknowledged is sent again afterwards, as providers do.
    """
    batch = batch_name()
    requests = signed_requests(batch, int(rate * seconds))
    async with Load(gateway.port, 16) as load:
        sending = asyncio.create_task(load.open_loop(requests, rate, 20.0))
        await asyncio.sleep(seconds / 3)
        await asyncio.to_thread(_crash, gateway)
        await asyncio.sleep(seconds / 3)
        await asyncio.to_thread(_crash, kafka)
        first = await sending
        acknowledged = _acknowledged(batch, first)
        again, refused = await _send_again(load, requests, first)
    acknowledged |= {event_id(batch, number) for number in again}
    found = [
        name for name in await ids_on(kafka.bootstrap, topic) if name.startswith(f"msg_{batch}_")
    ]
    missing = acknowledged - {*found}
    return Finding(
        "acknowledged and missing after kill -9 of gateway and broker",
        str(len(missing)),
        "0",
        not missing and len(acknowledged) > 0 and not refused,
        {
            "requests": len(requests),
            "statuses": first.counts,
            "acknowledged": len(acknowledged),
            "on_the_topic": len(found),
            "repeated_on_the_topic": len(found) - len({*found}),
            "never_acknowledged": refused,
        },
    )


def _crash(service: LocalGateway | LocalKafka) -> None:
    service.kill()
    service.start()


def _acknowledged(batch: str, answers: Answers) -> set[str]:
    return {
        event_id(batch, number)
        for number, status in enumerate(answers.status)
        if status == _ACCEPTED
    }


async def _send_again(
    load: Load, requests: Sequence[bytes], answers: Answers
) -> tuple[list[int], int]:
    """Numbers that were acknowledged by and by, and how many were not."""
    left = [number for number, status in enumerate(answers.status) if status != _ACCEPTED]
    done: list[int] = []
    deadline_s = time.monotonic() + _AGAIN_S
    while left and time.monotonic() < deadline_s:
        again = await load.open_loop([requests[number] for number in left], 500.0, 10.0)
        done += [
            number for number, status in zip(left, again.status, strict=True) if status == _ACCEPTED
        ]
        left = [
            number for number, status in zip(left, again.status, strict=True) if status != _ACCEPTED
        ]
        await asyncio.sleep(_PAUSE_S)
    return done, len(left)
