"""Logs as one JSON object a line on stderr, without secrets and telephone numbers.

A traceback is kept as file, line and function with the exception's class: the texts of exceptions
may hold what somebody sent.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

MASK = "***"
SECRET_NAMES = re.compile(
    r"password|secret|token|api_?key|authorization|cookie|csrf|reporter", re.I
)
SECRET_TEXT = re.compile(
    r"yutu_[A-Za-z0-9_-]{20,}"  # API keys
    r"|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"  # tokens
    r"|//[^/@\s]*:[^/@\s]*@"  # user:password@ of a URL
    r"|(?<!\d)(?:\+?86[- ]?)?1[3-9]\d(?:[- ]?\d{4}){2}(?!\d)"  # mobile telephones
    r"|(?<!\d)0\d{2,3}-\d{7,8}(?!\d)"  # fixed ones
)

Event = MutableMapping[str, Any]


def mask(value: Any) -> Any:
    """The value without secrets, at any depth."""
    if isinstance(value, str):
        return SECRET_TEXT.sub(MASK, value)
    if isinstance(value, dict):
        return {
            name: MASK if SECRET_NAMES.search(str(name)) else mask(one)
            for name, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [mask(one) for one in value]
    return value


def configure(level: int = logging.INFO) -> None:
    """Send structlog and the standard library's loggers to stderr as JSON lines."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _trace,
            _masked,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = name != "uvicorn.access"  # our own line per request replaces it
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _trace(_logger: Any, _name: str, event: Event) -> Event:
    raised = event.pop("exc_info", None)
    if raised is True:
        raised = sys.exc_info()[1]
    if isinstance(raised, tuple):
        raised = raised[1]
    if isinstance(raised, BaseException):
        event["exception"] = _chain(raised)
    return event


def _chain(error: BaseException | None) -> list[dict[str, Any]]:
    chain: list[dict[str, Any]] = []
    while error is not None and len(chain) < 5:
        frames = traceback.extract_tb(error.__traceback__)[-15:]
        at = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        entry: dict[str, Any] = {"class": kind, "at": at}
        sqlstate = getattr(error, "sqlstate", None)
        if sqlstate:
            entry["sqlstate"] = sqlstate
        chain.append(entry)
        error = error.__cause__ or error.__context__
    return chain


def _masked(_logger: Any, _name: str, event: Event) -> Event:
    return {
        name: MASK if SECRET_NAMES.search(name) else mask(value) for name, value in event.items()
    }


def _dumps(event: Event, **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
