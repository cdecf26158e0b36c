"""Log lines as JSON objects, one a line, for machines that collect logs."""

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

#: What a log line may say besides its text; anything else stays out.
FIELDS: Final = ("group", "task", "topic", "partition", "offset", "event_id", "reason", "count")


class JsonFormatter(logging.Formatter):
    """Formats a record with time, level, logger, event, message, and the fields above.

    The event is what the message begins with, up to a colon: the same text for the same thing.
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        # The arguments are those of the formatter that it takes the place of.
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """Make the line."""
        message = record.getMessage()
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": message,
        }
        if record.name.startswith("edo_stream"):
            told["event"] = message.partition(":")[0]
        told |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


def logging_config(log_format: str) -> dict[str, Any] | None:
    """Settings for Faust's logging; ``None`` leaves them as they are."""
    if log_format == "text":
        return None
    formatter = {"()": f"{JsonFormatter.__module__}.{JsonFormatter.__name__}"}
    # The names of the formatters are Faust's: one for files, one for streams.
    return {"merge": True, "formatters": {"default": formatter, "colored": formatter}}
