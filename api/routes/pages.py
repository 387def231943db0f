"""The commander's pages: all plans, or one, now or at a past time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import Cookie, Depends, Request, Response
from sqlalchemy import Connection

from api.answers import page_answer
from api.deps import At, Caller, Csrf, LangDep, Services, ServicesDep
from api.language import Lang
from api.policy import READS_INCIDENTS, SUPPOSES
from api.routing import make_router
from api.situations import Situations
from api.withheld import told_to
from data.accounts import Account
from data.database import reading
from data.divisions import DivisionVersion, feature_collection, version_at
from maps.map_view import MapView
from maps.situation_map import render_page

#: Borders on the page may stray this far, in metres; neighbours keep a common one.
DISPLAY_TOLERANCE_M = 400.0
LANG_COOKIE = "yutu_lang"
LAYERS = ["incidents", "outages", "teams"]

router = make_router("pages")

_shapes: dict[tuple[str, DivisionVersion], dict[str, Any]] = {}


@dataclass(frozen=True)
class Visit:
    """Who opens a page, and how it is to be shown."""

    request: Request
    services: Services
    account: Account
    csrf: str
    lang: Lang
    at: datetime | None


def visit_of(
    request: Request,
    services: ServicesDep,
    account: Caller,
    csrf: Csrf,
    lang: LangDep,
    at: At,
    chosen: Annotated[str | None, Cookie(alias=LANG_COOKIE)] = None,
) -> Visit:
    """`?lang=` wins, then the page's own switch (a cookie), then the browser's preference."""
    if "lang" not in request.query_params and chosen in ("zh", "en"):
        lang = "zh" if chosen == "zh" else "en"
    return Visit(request, services, account, csrf, lang, at)


VisitDep = Annotated[Visit, Depends(visit_of)]


@router.get("/", include_in_schema=False)
def home(visit: VisitDep) -> Response:
    return _page(visit, None)


@router.get("/maps/{plan}", include_in_schema=False)
def plan_map(visit: VisitDep, plan: str) -> Response:
    return _page(visit, plan)


def _page(visit: Visit, plan: str | None) -> Response:
    page = render_page(
        map_view(visit),
        plan,
        planner=visit.account.role in SUPPOSES,
        layers=LAYERS if visit.account.role in READS_INCIDENTS else ["outages"],
    )
    return page_answer(page, request=visit.request)


def map_view(visit: Visit) -> MapView:
    """What a map shows this visit: districts and rules of its time, of now the situation too."""
    services, at = visit.services, visit.at
    with reading(services.engine) as connection:
        version = version_at(connection, at)
        districts = display_districts(connection, services.configuration.database_url, version)
    in_force = services.packs.in_force(at or datetime.now(UTC))
    stored = services.get(Situations).latest(visit.lang) if at is None else None
    return MapView(
        lang=visit.lang,
        districts=districts,
        packs={pack.plan: pack.as_json(visit.lang) for pack in in_force},
        at=at.isoformat() if at else None,
        user={"username": visit.account.username, "role": visit.account.role},
        csrf=visit.csrf,
        situation=told_to(orjson.loads(stored.body), visit.account) if stored else None,
    )


def display_districts(
    connection: Connection, database: str, version: DivisionVersion
) -> dict[str, Any]:
    """Simplified borders of a version; kept, since a version's borders never change."""
    key = (database, version)
    if key not in _shapes:
        _shapes[key] = feature_collection(connection, version, tolerance_m=DISPLAY_TOLERANCE_M)
    return _shapes[key]
