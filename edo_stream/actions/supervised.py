"""What holds for each executor, whatever it does.

- It cannot end the worker: not by :class:`SystemExit`, and not by a cancellation of its own.
- Runs that ignore their cancellation go on by themselves; when there are as many as the flow may
  have runs, nothing more is begun, and the breaker opens.
- What it tells fits the records that tell it.
"""

import asyncio
import logging
from typing import Any, Final

import msgspec

from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from edo_stream.engine.target import Executor
from edo_stream.gateway.secrets import SecretUnreadError

log = logging.getLogger(__name__)

DATA_BYTES_MAX: Final = 512 * 1024
_REASON_CHARS_MAX: Final = 100
_DETAIL_CHARS_MAX: Final = 1_000
_RETRY_AFTER_MAX_MS: Final = 86_400_000


class Supervised:
    """An executor, as :class:`~edo_stream.engine.target.Target` may call it."""

    def __init__(self, executor: Executor, stuck_max: int) -> None:
        self._executor = executor
        self._stuck_max = stuck_max
        self._running: set[asyncio.Task[Any]] = set()

    async def __call__(self, command: Command) -> Outcome:
        """Run a command, in the task that is cancelled when its time is over."""
        stuck = sum(task.cancelling() > 0 for task in self._running)
        if stuck >= self._stuck_max:
            detail = f"{stuck} runs have not ended since they were told to"
            return Failed(FailureClass.TRANSIENT, "stuck", detail)
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return _bounded(await self._executor(command), command)
        except asyncio.CancelledError:
            if task.cancelling():
                raise
            return Failed(FailureClass.TRANSIENT, "cancelled", "what it waited for was cancelled")
        except SecretUnreadError as error:
            return Failed(FailureClass.TRANSIENT, "secret", str(error))
        except TimeoutError:
            return Failed(FailureClass.TRANSIENT, "timeout", "of something that it waited for")
        except (SystemExit, KeyboardInterrupt) as error:
            log.exception("flow %s, command %s: wanted to end", command.flow, command.id)
            return Failed(FailureClass.TRANSIENT, "executor-failed", type(error).__name__)
        finally:
            self._running.discard(task)


def _bounded(outcome: Outcome, command: Command) -> Outcome:
    """The outcome, so that it can be written: a handler may have made it itself."""
    match outcome:
        case Failed():
            wait_ms = outcome.retry_after_ms
            return Failed(
                outcome.failure,
                _text(outcome.reason)[:_REASON_CHARS_MAX],
                _text(outcome.detail)[:_DETAIL_CHARS_MAX],
                None if wait_ms is None else min(max(0, int(wait_ms)), _RETRY_AFTER_MAX_MS),
            )
        case Done(data=data) if data is not None and len(data) > DATA_BYTES_MAX:
            log.warning(
                "flow %s, command %s: left out a result of %s bytes, the bound is %s",
                command.flow,
                command.id,
                len(data),
                DATA_BYTES_MAX,
            )
            # What it did is done, and to repeat it would be worse than to tell less of it.
            left_out = msgspec.json.encode({"left_out": {"bytes": len(data)}})
            return Done(left_out, "application/json", outcome.records)
        case Done():
            return outcome


def _text(text: object) -> str:
    """A text that can be encoded."""
    return str(text).encode("utf-8", "replace").decode()
