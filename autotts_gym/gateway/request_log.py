"""The log of a gateway: one JSON object per line, one line per request with its bill."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Final

from autotts_gym.utils.redaction import redact

LOGGER: Final = logging.getLogger("autotts_gym.gateway")


class JsonFormatter(logging.Formatter):
    """Formats a record, and the fields in its attribute ``facts``, as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        message = redact(record.getMessage())
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        content: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": message,
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            content["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(content, default=str)


def set_up() -> None:
    """Log to the standard error stream, in JSON; the messages of uvicorn as well."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in ("autotts_gym.gateway", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False


def log(event: str, level: int = logging.INFO, **facts: Any) -> None:
    """Log an event with its facts."""
    LOGGER.log(level, event, extra={"facts": facts})
