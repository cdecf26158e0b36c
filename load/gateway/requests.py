"""Signed requests, made before they are sent."""

import base64
import hmac
import json
import time
from collections.abc import Iterator
from typing import Final

SECRET: Final = "whsec_" + base64.b64encode(b"a key of 32 bytes for load tests").decode()
_KEY: Final = base64.b64decode(SECRET.removeprefix("whsec_"))
_CUSTOMERS: Final = 997


def event_id(batch: str, number: int) -> str:
    """Id of a request's event."""
    return f"msg_{batch}_{number:08d}"


def signed_requests(batch: str, count: int, path: str = "/load") -> list[bytes]:
    """Requests by Standard Webhooks, each of an event of its own; ids repeat for no batch."""
    return list(_requests(batch, count, path))


def _requests(batch: str, count: int, path: str) -> Iterator[bytes]:
    for number in range(count):
        now_s = time.time_ns() // 1_000_000_000
        name = event_id(batch, number)
        body = json.dumps(
            {
                "type": "invoice.paid",
                "timestamp": "2026-01-31T12:00:00Z",
                "data": {
                    "customer": f"cus_{number % _CUSTOMERS:06d}",
                    "invoice": f"in_{number:012d}",
                    "amount": number % 100_000,
                    "currency": "eur",
                    "lines": [{"sku": f"sku-{line}", "quantity": line + 1} for line in range(3)],
                },
            }
        ).encode()
        signature = base64.b64encode(
            hmac.digest(_KEY, b"%b.%d.%b" % (name.encode(), now_s, body), "sha256")
        )
        yield (
            b"POST %b HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
            b"User-Agent: load\r\nContent-Length: %d\r\nwebhook-id: %b\r\n"
            b"webhook-timestamp: %d\r\nwebhook-signature: v1,%b\r\n\r\n%b"
            % (path.encode(), len(body), name.encode(), now_s, signature, body)
        )
