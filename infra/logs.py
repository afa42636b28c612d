"""Logs: one JSON object a line on stderr, with service, run and event bound; secrets are never in it."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

MASK = "********"
_SECRET_NAME = re.compile(r"(?i)(password|passwd|secret|token$|authorization|api_?key|private_?key|credential)")
_SECRET_IN_URL = re.compile(r"(://(?:[^:/@\s]*:)?)[^@/\s]+@")


def configure(
    service: str,
    *,
    level: Literal["debug", "info", "warning", "error"] = "info",
    format: Literal["auto", "json", "console"] = "auto",
    stream: TextIO | None = None,
) -> None:
    """Send all logs of this process, ours and other libraries', to stderr. auto: console on a terminal, else JSON."""
    stream = stream or sys.stderr
    console = format == "console" or (format == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _of_service(service),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.format_exc_info,
        hide_secrets,
    ]
    renderer: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=stream.isatty())]
        if console
        else [structlog.processors.EventRenamer("message"), structlog.processors.JSONRenderer(ensure_ascii=False)]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for noisy in ("asyncio", "nats", "sqlalchemy", "alembic", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a part of Milepost: `log.info("step done", step=3)`."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound


def bound(*, run: str | None = None, event: str | None = None, **more: str | int) -> AbstractContextManager[object]:
    """Within the block, every log line of this task says which run and event it is about."""
    known = {"run": run, "event_id": event}
    return structlog.contextvars.bound_contextvars(**{k: v for k, v in known.items() if v is not None}, **more)


def hide_secrets(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Mask values whose name says that they are secret, and passwords inside URLs."""
    for name, value in line.items():
        line[name] = MASK if _SECRET_NAME.search(name) and value is not None else _without_secrets(value)
    return line


def _without_secrets(value: object) -> object:
    if isinstance(value, str):
        return _SECRET_IN_URL.sub(rf"\1{MASK}@", value)
    if isinstance(value, Mapping):
        return {name: MASK if _SECRET_NAME.search(str(name)) else _without_secrets(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_without_secrets(inner) for inner in value]
    return value


def _of_service(service: str) -> Processor:
    def add(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        line.setdefault("service", service)
        return line

    return add
