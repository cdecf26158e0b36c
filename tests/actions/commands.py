"""Commands for executors."""

import os
import subprocess
import sys
import threading
import time
from typing import Any

import msgspec

from edo_stream.actions import BusinessError, Call, action
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


@action(dict, pool="process")
def misbehave(event: dict[str, Any], call: Call) -> Any:
    """Do in a process what an event says."""
    match event["do"]:
        case "tell":
            os.write(1, b"not part of the protocol")
            return {"pid": os.getpid(), "attempt": call.attempt}
        case "refuse":
            raise BusinessError("none left", reason="no-stock", retry_after=3)
        case "raise":
            raise UnpicklableError("a", "b")
        case "give":
            return object()
        case "exit":
            sys.exit(3)
        case "die":
            os._exit(7)
        case _:
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            with open(event["marker"], "w") as marker:
                marker.write(f"{os.getpid()} {child.pid}")
            return time.sleep(600)


class UnpicklableError(Exception):
    """One that no other process can make anew."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} {other}")
        self.lock = threading.Lock()
