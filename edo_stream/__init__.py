"""Event-driven orchestration on Kafka.

What programs import is here, and loaded when it is used: the commands and the worker need little
of it.
"""

from importlib import import_module
from typing import Any

__all__ = ["ContractError", "Producer", "Requester"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = "requester" if name == "Requester" else "producer"
        return getattr(import_module(f"edo_stream.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
