"""Commands for executors."""

import os
from typing import Any

import msgspec

from edo_stream.actions import action
from edo_stream.core.act.command import Command


def command(data: Any = None, raw: bytes | None = None, **more: Any) -> Command:
    """A command with the values that the tests do not care about."""
    parts: dict[str, Any] = {
        "id": "c-1",
        "flow": "ship",
        "type": "shop.order.placed",
        "key": b"o-7",
        "headers": (("content-type", b"application/json"), ("ce_traceparent", b"00-ab-cd-01")),
        "timestamp_ms": 0,
        "origin": "edo.commands.ship/0/1",
    }
    return Command(data=msgspec.json.encode(data) if raw is None else raw, **{**parts, **more})


@action(dict[str, int], pool="process")
def in_a_process(event: dict[str, int]) -> list[int]:
    """Tell where it runs; here, because the other process imports it by its module's name."""
    return [os.getpid(), event["items"]]
