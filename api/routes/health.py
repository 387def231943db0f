"""Whether the process lives, whether it is ready, and its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import structlog
from fastapi import Request, Response
from sqlalchemy.exc import SQLAlchemyError

from api.answers import json_answer
from api.aside import Aside
from api.deps import Services, services_of
from api.gauges import Vitals, gauges
from api.language import language_of
from api.messages import told
from api.metrics import MEDIA_TYPE, exposition
from api.problems import problem
from api.routing import make_router
from data.schema_version import has_newest_schema

READY_WAIT_S = 2.0
RETRY_AFTER_S = 2
TOO_SLOW = "the database does not answer in time"
CHECK_FAILED = "a readiness check failed"

router = make_router("service")
log = structlog.get_logger("yutu.health")

_asking: Aside[list[str]] = Aside("ready", at_once=2, wait_s=READY_WAIT_S)


@router.get("/health", summary="This process is alive")
async def health() -> Response:
    """Touches neither database nor thread pool: it answers whatever else is stuck."""
    return json_answer({"status": "ok"})


@router.get(
    "/ready",
    summary="The database answers, its schema is the newest, the situation is being built",
    responses={503: {"description": "Not ready; `reasons` says why"}},
)
async def ready(request: Request) -> Response:
    services = services_of(request)
    reasons = await _asking.ask(lambda: _reasons(services))
    if reasons is None:
        reasons = [TOO_SLOW]
    if reasons:
        lang = language_of(request.scope)
        reasons = [told(reason, lang) for reason in reasons]
        return problem(
            503,
            ("；" if lang == "zh" else "; ").join(reasons),
            lang=lang,
            headers={"Retry-After": str(RETRY_AFTER_S)},
            reasons=reasons,
        )
    return json_answer({"status": "ready"})


@router.get(
    "/metrics",
    summary="Metrics in Prometheus' text format",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Answered also while the database is not, outside the pool of threads it may have filled."""
    services = services_of(request)
    signs = await services.get(Vitals).signs()
    text = await asyncio.to_thread(lambda: exposition(gauges(services, signs)))
    return Response(text, headers={"Content-Type": MEDIA_TYPE})


def _reasons(services: Services) -> list[str]:
    try:
        return list(reasons_not_ready(services))
    except Exception:  # a hook that fails is a reason too
        log.exception("readiness check failed")
        return [CHECK_FAILED]


def reasons_not_ready(services: Services) -> Iterator[str]:
    """Every reason not to send requests here, in words that name the remedy's place."""
    if services.stopping.is_set():
        yield "the service is stopping"
        return
    try:
        with services.health_engine.connect() as connection:
            newest = has_newest_schema(connection)
    except SQLAlchemyError:
        yield "the database cannot be reached"
        return
    if not newest:
        yield "the schema is not the newest; run yutu db migrate"
    for check in services.readiness:
        reason = check()
        if reason:
            yield reason
