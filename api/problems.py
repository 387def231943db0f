"""Every error as `application/problem+json` (RFC 9457), from one table; a 5xx says nothing inside.

`errors` lists faults as `{row, field, reason}`; the input itself is never repeated.
Texts are told in the reader's language here (`api.messages`).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import psycopg
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from prometheus_client import Counter
from sqlalchemy import exc as sa
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.language import language_of
from api.messages import summary, told, told_fault
from geo import errors
from geo.errors import Fault

MEDIA_TYPE = "application/problem+json"
FAULTS_MAX = 1000
DETAIL_MAX = 2000
RETRY_AFTER_S = 1
QUOTED = re.compile(r"'([^']*)'")
FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z_-]{0,39}")

log = structlog.get_logger("yutu.problem")

#: TimeoutError is the pool's: no connection became free in time.
UNAVAILABLE = Counter("yutu_unavailable_total", "Answers 503, by what was the matter.", ["error"])

#: The nearest class in an error's ancestry decides.
STATUS_OF: Mapping[type[Exception], int] = {
    errors.InvalidInput: 422,
    errors.CrsError: 422,
    errors.TooLarge: 413,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.VersionMismatch: 412,
    errors.NotAllowed: 403,
    errors.TooMany: 429,
    errors.Unavailable: 503,
    sa.TimeoutError: 503,
    sa.OperationalError: 503,
    sa.InterfaceError: 503,
    sa.DisconnectionError: 503,
    psycopg.OperationalError: 503,
    ClientDisconnect: 400,
    sa.DataError: 422,
    Exception: 500,
}

TITLES: Mapping[int, tuple[str, str]] = {
    400: ("请求有误", "Bad request"),
    401: ("需要登录", "Authentication required"),
    403: ("无权操作", "Not allowed"),
    404: ("没有找到", "Not found"),
    405: ("不支持该方法", "Method not allowed"),
    406: ("无法提供所要的格式", "Not acceptable"),
    409: ("与已有内容冲突", "Conflict"),
    412: ("版本不符", "Version mismatch"),
    413: ("内容过大", "Too large"),
    415: ("不支持该格式", "Unsupported media type"),
    422: ("输入有误", "Invalid input"),
    428: ("缺少版本条件", "Precondition required"),
    429: ("请求过于频繁", "Too many requests"),
    500: ("内部错误", "Internal error"),
    503: ("暂时无法服务", "Temporarily unavailable"),
    507: ("存储空间不足", "Insufficient storage"),
}


def problem(
    status: int,
    detail: str | None = None,
    *,
    lang: str = "zh",
    faults: Iterable[Fault] = (),
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """A problem response. `detail` and the reasons of `faults` are told in `lang`; `more` are
    extension members, as they are."""
    titles = TITLES.get(status) or TITLES[500 if status >= 500 else 400]
    slug = titles[1].lower().replace(" ", "-")
    body: dict[str, Any] = {
        "type": f"urn:yutu:problem:{slug}",
        "title": titles[0 if lang == "zh" else 1],
        "status": status,
    }
    if detail:
        body["detail"] = told(detail, lang)
    found = list(faults)
    if found:
        listed = [told_fault(fault, lang) for fault in found[:FAULTS_MAX]]
        body["errors"] = [{"row": f.row, "field": f.field, "reason": f.reason} for f in listed]
        if len(found) > FAULTS_MAX:
            body["errors_total"] = len(found)
    body |= more
    return Response(
        orjson.dumps(body, default=str), status, headers=dict(headers or {}), media_type=MEDIA_TYPE
    )


def status_of(error: Exception) -> int:
    """The status for an error, by the nearest class of its ancestry in the table."""
    if _read_only(error):
        return 503
    return next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)


def answer_error(error: Exception, lang: str) -> Response:
    """The problem that tells the caller what to do about `error`, and no more."""
    if isinstance(error, HTTPException):
        detail = error.detail if isinstance(error.detail, str) and error.status_code < 500 else None
        return problem(error.status_code, detail, lang=lang, headers=error.headers)
    if isinstance(error, RequestValidationError):
        faults = faults_of(error)
        return problem(422, summary(faults, lang)[:DETAIL_MAX], lang=lang, faults=faults)
    status = status_of(error)
    if isinstance(error, ClientDisconnect):  # for the log: nobody is there to read it
        return problem(400, "the body broke off", lang=lang)
    if isinstance(error, errors.YutuError) and status < 500:
        if isinstance(error, errors.InvalidInput):
            detail = summary(error.faults, lang)[:DETAIL_MAX]
            return problem(status, detail, lang=lang, faults=error.faults)
        headers = (
            {"Retry-After": str(error.retry_after_s)} if isinstance(error, errors.TooMany) else {}
        )
        return problem(status, str(error), lang=lang, headers=headers)
    if status == 503:
        ours = isinstance(error, errors.Unavailable)
        retry = error.retry_after_s if isinstance(error, errors.Unavailable) else RETRY_AFTER_S
        UNAVAILABLE.labels(type(error).__name__).inc()
        log.warning("unavailable", error=type(error).__name__, sqlstate=_sqlstate(error))
        return problem(
            503,
            str(error) if ours else None,
            lang=lang,
            headers={"Retry-After": str(retry)},
        )
    if status == 422:  # the database refused a value that we let through
        log.error("value refused by the database", sqlstate=_sqlstate(error))
        return problem(422, "a value is out of its range", lang=lang)
    error_id = secrets.token_hex(8)
    log.error("internal error", error_id=error_id, exc_info=error)
    return problem(500, lang=lang, error_id=error_id)


def install(app: FastAPI) -> None:
    """Answer every error of the routes by the table above."""

    async def handle(request: Request, error: Exception) -> Response:
        return answer_error(error, language_of(request.scope))

    for kind in (HTTPException, RequestValidationError, *STATUS_OF):
        if kind is not Exception:  # that one is caught by the outermost middleware
            app.add_exception_handler(kind, handle)
    app.add_exception_handler(ResponseValidationError, handle)


def faults_of(error: RequestValidationError) -> list[Fault]:
    """What pydantic found, as faults of ours."""
    return [_fault(one) for one in error.errors()]


def _fault(error: Mapping[str, Any]) -> Fault:
    """A pydantic error as a fault: where, by names of ours, and why, without the input."""
    where = list(error["loc"])
    if where and where[0] in {"body", "query", "path", "header", "cookie"}:
        where.pop(0)
    row = None
    if where and isinstance(where[0], int):
        row = where.pop(0) + 1
    names = [
        str(part) if isinstance(part, int) or FIELD_NAME.fullmatch(part) else "…" for part in where
    ]
    field = ".".join(names) or None
    words = QUOTED.findall(str((error.get("ctx") or {}).get("expected", "")))
    if error["type"] in ("literal_error", "enum") and words:
        return Fault(f"must be one of {', '.join(words)}", row=row, field=field)
    return Fault(str(error["msg"]).removeprefix("Value error, "), row=row, field=field)


def _sqlstate(error: Exception) -> str | None:
    return getattr(getattr(error, "orig", error), "sqlstate", None)


def _read_only(error: Exception) -> bool:
    """A database that just became a replica, or is out of space, refuses writes for a while."""
    return _sqlstate(error) in {"25006", "53100", "53200", "53300"}
