"""Event-driven orchestration on Kafka.

What programs import is here, and loaded when it is used: the commands and the worker need little
of it.
"""

from importlib import import_module
from typing import Any

__all__ = ["ContractError", "Producer"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("edo_stream.producer"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
