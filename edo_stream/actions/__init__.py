"""Executors: how a command becomes a side effect, and its end an outcome.

What handlers of users import is here: the decorator, and the exceptions that say what a failure
means.
"""

from edo_stream.actions.errors import BusinessError, PermanentError, Throttled, TransientError
from edo_stream.actions.handler import action
from edo_stream.actions.invocation import Call

__all__ = ["BusinessError", "Call", "PermanentError", "Throttled", "TransientError", "action"]
