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
#: For runs that nobody waits for any more, and for such as are to end.
_WORDS_OF_THE_ENGINE: Final = (FailureClass.FENCED, FailureClass.CANCELLED)


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


def _bounded(outcome: Any, command: Command) -> Outcome:
    """The outcome, so that it can be written: a handler may have made it itself."""
    match outcome:
        case Failed():
            return _failure(outcome)
        case Done(data=bytes() | None as data, content_type=str() | None):
            return (
                outcome if len(data or b"") <= DATA_BYTES_MAX else _without_data(outcome, command)
            )
        case _:
            # It has run: to run it again would repeat what it did.
            detail = f"it ran, and returned {type(outcome).__name__} of other types"
            return Failed(FailureClass.POISON, "result", detail)


def _failure(told: Failed) -> Failed:
    failure: Any = told.failure
    wait_ms: Any = told.retry_after_ms
    is_known = isinstance(failure, FailureClass) and failure not in _WORDS_OF_THE_ENGINE
    return Failed(
        failure if is_known else FailureClass.TRANSIENT,
        _text(told.reason)[:_REASON_CHARS_MAX],
        _text(told.detail)[:_DETAIL_CHARS_MAX],
        min(max(0, int(wait_ms)), _RETRY_AFTER_MAX_MS)
        if isinstance(wait_ms, int | float)
        else None,
    )


def _without_data(outcome: Done, command: Command) -> Done:
    """It is done, and to repeat it would be worse than to tell less of it."""
    size = len(outcome.data or b"")
    log.warning(
        "flow %s, command %s: left out a result of %s bytes, the bound is %s",
        command.flow,
        command.id,
        size,
        DATA_BYTES_MAX,
    )
    left_out = msgspec.json.encode({"left_out": {"bytes": size}})
    return Done(left_out, "application/json", outcome.records)


def _text(text: object) -> str:
    """A text that can be encoded."""
    return str(text).encode("utf-8", "replace").decode()
