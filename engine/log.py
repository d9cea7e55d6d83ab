"""Logging for the operator: key=value on a terminal, JSON elsewhere. Secrets are taken out of every line.

Audit is not logging: `audit.record` is for the auditor. A log line never holds a provisioning token, an API key or a
password, whoever wrote it.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from engine.config import Log

# The provisioning token is a path segment, so any URL in any message may hold it; an API key is told by its prefix.
_SECRETS = re.compile(r"(?P<path>/p/)[^/\s\"'?]+|\bcp_[A-Za-z0-9_-]{20,}|(?P<setup>[?&]k=)[^&\s\"']+")


def redact(text: str) -> str:
    """The text with every provisioning token, API key and set-up key replaced by `…`."""
    return _SECRETS.sub(lambda found: f"{found['path'] or found['setup'] or ''}…", text)


def set_up(log: Log) -> None:
    """Route structlog and the standard library's loggers to standard error, redacted."""
    console = log.format == "console" or (log.format == "auto" and sys.stderr.isatty())
    renderer = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _redact_all,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log.level.upper())
    for noisy in ("aiohttp.access", "aiohttp.server", "asyncio", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING if log.level != "debug" else logging.DEBUG)
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)  # its debug lines hold every value of every statement
    logging.getLogger("aiohttp.server").addFilter(_without_traceback)


def _redact_all(_logger: object, _name: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in fields.items():
        if isinstance(value, str):
            fields[key] = redact(value)
    return fields


def _without_traceback(record: logging.LogRecord) -> bool:
    """A malformed request from a scanner is one line, not a page (aiohttp logs a traceback for each)."""
    if record.exc_info and record.exc_info[0] is not None and record.exc_info[0].__module__.startswith("aiohttp"):
        record.exc_info = None
    return True
