"""Logs on stderr through structlog, with secrets taken out whoever wrote the line."""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Iterable, MutableMapping
from types import TracebackType
from typing import Any

import structlog

REDACTED = "[redacted]"
#: Loggers that print request lines, hence signed URLs, below WARNING.
_CHATTY = (
    "httpx",
    "httpcore",
    "aiohttp",
    "botocore",
    "boto3",
    "urllib3",
    "s3transfer",
    "asyncio",
    "celery.worker.strategy",
    "celery.app.trace",
    "kombu",
)
_SIGNED = re.compile(
    r"(?i)(?<![A-Za-z0-9])(?P<name>policy|signature|p|s|x-amz-(?:signature|credential|security-token))(?P<sep>[:=])"
    r"(?P<value>[A-Za-z0-9_\-+/=%]{16,})"
)


class Redactor:
    """Knows this process' secrets by value and signed URLs by shape."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        return _SIGNED.sub(rf"\g<name>\g<sep>{REDACTED}", text)

    def event(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Clean every string value of an event (a structlog processor)."""
        for name, value in event.items():
            if isinstance(value, str):
                event[name] = self(value)
            elif not isinstance(value, int | float | bool | None):
                event[name] = self(str(value))
        return event


def configure_logs(level: str, fmt: str, secrets: Iterable[str] = ()) -> None:
    """Send structlog and standard-library records alike to stderr, redacted."""
    redact = Redactor(secrets)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact.event,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(fmt, shared, redact))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    _take_over_stderr()


def _take_over_stderr() -> None:
    """What Python would print itself goes through the log, where it is redacted: crashes and warnings."""
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_crash
    threading.excepthook = lambda crash: _log_crash(crash.exc_type, crash.exc_value, crash.exc_traceback)


def _log_crash(
    kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None
) -> None:
    if not issubclass(kind, Exception):
        return  # Ctrl-C and exits say nothing
    crash = (kind, error or kind(), traceback)
    structlog.get_logger().critical("crashed", exc_info=crash)


def _formatter(fmt: str, shared: list[Any], redact: Redactor) -> logging.Formatter:
    if fmt == "json":
        renderer: Any = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact.event, renderer],
    )
