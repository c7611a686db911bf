"""Log records as JSON lines (or short lines for a terminal), with constant messages and fields."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Final, TextIO

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, then the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line: dict[str, object] = {
            "time": stamp,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(fields(record))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class ConsoleFormatter(logging.Formatter):
    """A short line for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        facts = " ".join(f"{name}={value}" for name, value in fields(record).items())
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{clock} {record.levelname.lower():7} {record.getMessage()} {facts}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def fields(record: logging.LogRecord) -> dict[str, object]:
    """Return what the caller passed as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def configure(level: str = "info", style: str = "json", stream: TextIO | None = None) -> None:
    """Send every record of this process to `stream` (default: standard error).

    Args:
        level: `debug`, `info`, `warning` or `error`.
        style: `json` or `console`.
        stream: Where to.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # grpc's loggers repeat what the guard has logged already, with tracebacks of calls that were aborted on purpose.
    logging.getLogger("grpc").setLevel(logging.CRITICAL)
