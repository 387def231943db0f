"""Cursor on Target over HTTP, so that TAK clients share the picture; and teams as GeoJSON."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import Query, Request, Response

from api.answers import GEOJSON, json_answer
from api.audit_notes import note_rows
from api.bbox import BBoxDep
from api.deps import At, Body, Caller, ContentType, LangDep, ServicesDep
from api.messages import rejected_rows
from api.routing import make_router
from api.schemas import receipt_answer
from data.cot import Wording, incidents_xml
from data.database import reading
from data.divisions import district_rows, version_at
from data.incidents import OPEN_STATES, list_incidents
from data.tables_reports import INCIDENT_STATES
from data.teams import list_teams, store_positions
from data.times import parse_time
from geo.errors import Fault, InvalidInput
from maps.style import Style
from maps.text import KINDS

router = make_router("cot")

XML = "application/xml"
#: A client drops by itself what it is not told again; one that asks is told of these too.
OVER_TOLD_FOR = timedelta(days=7)
LABELS = {1: "Ⅰ", 2: "Ⅱ", 3: "Ⅲ", 4: "Ⅳ"}
EXAMPLE = (
    '<event version="2.0" uid="truck-7" type="a-f-G-U-C" how="m-g" time="2026-11-21T00:30:00Z"'
    ' start="2026-11-21T00:30:00Z" stale="2026-11-21T00:35:00Z">'
    '<point lat="29.563" lon="106.5516" hae="260" ce="8" le="9999999.0"/>'
    '<detail><contact callsign="抢险一队"/><track speed="3.2" course="90"/></detail></event>'
)


@router.get("/v1/cot/incidents.xml", summary="Incidents as Cursor on Target events")
def incidents_as_cot(
    request: Request,
    services: ServicesDep,
    account: Caller,
    lang: LangDep,
    since: Annotated[str | None, Query(description="Occurred then or later")] = None,
    plan: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """What `GET /v1/incidents` shows this account, as spot markers in one `<events>` document. Open
    ones last 15 minutes; ask again sooner. Those over that occurred within a week are sent stale,
    so that clients drop them. Incidents without a position are only counted."""
    now = datetime.now(UTC)
    earliest = _since(since)
    week = max(earliest or now - OVER_TOLD_FOR, now - OVER_TOLD_FOR)
    over = [state for state in INCIDENT_STATES if state not in OPEN_STATES]
    features: list[dict[str, Any]] = []
    for states, start in ((OPEN_STATES, earliest), (over, week)):
        features += list_incidents(
            services.engine,
            account,
            services.packs,
            since=start,
            plan=plan,
            states=states,
            limit=limit,
            lang=lang,
        )["features"]
    with reading(services.engine) as connection:
        rows = district_rows(connection, version_at(connection).id)
    name = "name_en" if lang == "en" else "name"
    words = Wording(
        KINDS[lang],
        {row["adcode"]: row.get(name) or row["name"] for row in rows},
        LABELS,
        Style().levels,
        str(request.base_url).rstrip("/"),
    )
    note_rows(request, len(features))
    written = incidents_xml(features, OPEN_STATES, now, words)
    said = f"{XML}; charset=utf-8"
    return Response(written, headers={"Cache-Control": "no-store"}, media_type=said)


@router.post(
    "/v1/cot",
    summary="Send positions of teams as Cursor on Target",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {XML: {"schema": {"type": "string"}, "example": EXAMPLE}},
        },
        "responses": receipt_answer(),
    },
)
def send_cot(
    services: ServicesDep, account: Caller, body: Body, content_type: ContentType, lang: LangDep
) -> Response:
    """One `<event>`, or `<events>` with several. Positions of friendly units are taken, everything
    else is listed as rejected. The answer comes after the commit; the same uid, time and body may
    be sent again for ever. `future` counts those more than 5 minutes ahead: kept, never applied;
    `future_rows` are their numbers."""
    receipt = store_positions(
        services.engine, body, account=account, content_type=content_type or XML
    )
    return json_answer(receipt.as_json(rejected_rows(receipt.rejected, lang)))


@router.get("/v1/teams", summary="Where the teams are")
def teams(
    request: Request,
    services: ServicesDep,
    account: Caller,
    at: At,
    bbox: BBoxDep,
    since: Annotated[str | None, Query(description="Observed then or later")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Response:
    """GeoJSON: each team within the caller's districts, or sent by the caller, where it was last.
    `stale`: the sender's own limit has passed."""
    found = list_teams(
        services.engine,
        account,
        at=at,
        bbox=bbox,
        since=_since(since),
        limit=limit,
        offset=offset,
    )
    note_rows(request, len(found["features"]))
    return json_answer(found, media_type=GEOJSON)


def _since(since: str | None) -> datetime | None:
    if since is None:
        return None
    try:
        # a + that was not escaped arrives as a space
        return parse_time(re.sub(r" (?=\d{2}:\d{2}$)", "+", since))
    except ValueError as error:
        raise InvalidInput([Fault(str(error), None, "since")]) from None
