"""What a handler raises to say what its failure means; anything else counts as transient."""

from datetime import timedelta
from math import isnan
from typing import Final

from edo_stream.core.act.outcome import Failed, FailureClass

_RETRY_AFTER_MAX_S: Final = 86_400.0


class ActionError(Exception):
    """A failure of known meaning. ``reason`` is a code such as ``no-stock``; see the subclasses.

    ``retry_after`` is in seconds, a day at most.
    """

    failure = FailureClass.TRANSIENT
    _reason = "failed"

    def __init__(
        self,
        detail: object = "",
        *,
        reason: object = None,
        retry_after: timedelta | float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = str(detail)
        self.reason = self._reason if reason is None else str(reason)
        self.retry_after_ms = _milliseconds(retry_after)

    def outcome(self) -> Failed:
        """The same as an outcome."""
        return Failed(self.failure, self.reason, self.detail, self.retry_after_ms)


class TransientError(ActionError):
    """It may succeed later: run again on the ladder, not before ``retry_after`` (seconds)."""

    _reason = "transient"


class PermanentError(ActionError):
    """It can never succeed: a dead letter, at once."""

    failure = FailureClass.POISON
    _reason = "permanent"


class BusinessError(ActionError):
    """The answer is no: a failure event, and nothing is run again."""

    failure = FailureClass.BUSINESS
    _reason = "refused"


class Throttled(ActionError):  # noqa: N818 - not an error of anybody's
    """The receiver asks for patience: run again later, and it counts as no attempt."""

    failure = FailureClass.THROTTLED
    _reason = "throttled"


def _milliseconds(wait: timedelta | float | None) -> int | None:
    if wait is None:
        return None
    seconds = wait.total_seconds() if isinstance(wait, timedelta) else wait
    return 0 if isnan(seconds) else round(min(max(0.0, seconds), _RETRY_AFTER_MAX_S) * 1000)
