"""The planner's page: regions, what-if and files, now or at a past time."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from fastapi import Response

from api.answers import page_answer
from api.routes.pages import VisitDep, display_districts
from api.routing import make_router
from api.situations import Situations
from data.database import reading
from data.divisions import version_at
from maps.planner_page import render_planner

router = make_router("pages")


@router.get("/planner", include_in_schema=False)
def planner(visit: VisitDep) -> Response:
    services, at = visit.services, visit.at
    with reading(services.engine) as connection:
        version = version_at(connection, at)
        districts = display_districts(connection, services.configuration.database_url, version)
    in_force = services.packs.in_force(at or datetime.now(UTC))
    stored = services.get(Situations).latest(visit.lang) if at is None else None
    page = render_planner(
        lang=visit.lang,
        districts=districts,
        packs={pack.plan: pack.as_json(visit.lang) for pack in in_force},
        at=at.isoformat() if at else None,
        user={"username": visit.account.username, "role": visit.account.role},
        csrf=visit.csrf,
        situation=orjson.loads(stored.body) if stored else None,
    )
    return page_answer(page, request=visit.request)
