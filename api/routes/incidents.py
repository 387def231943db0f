"""Incidents: submitted once, edited by version, read within the caller's districts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Header, Query, Request, Response

from api.answers import GEOJSON, json_answer
from api.audit_notes import note_rows
from api.bbox import BBoxDep
from api.deps import At, Body, Caller, ContentType, LangDep, ServicesDep
from api.members import meant, unread
from api.problems import problem
from api.routing import make_router
from api.strict_json import parse_json
from data.incident_submission import edit_incident, read_change, store_incident
from data.incidents import OPEN_STATES, get_incident, list_incidents
from data.times import parse_time
from geo.errors import Fault, InvalidInput, VersionMismatch

router = make_router("incidents")

State = Literal["open", "reported", "verified", "active", "resolved", "rejected", "duplicate"]
ETAG = re.compile(r'"?([0-9]{1,9})"?')
EXAMPLE: dict[str, Any] = {
    "incident_id": "0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6b",
    "plan": "special-equipment-2023",
    "kind": "elevator",
    "occurred_at": "2026-11-21T08:30:00+08:00",
    "position": [106.5516, 29.563],
    "crs": "WGS84",
    "accuracy_m": 12,
    "description": "电梯困人",
    "facts": {"people_stranded": 6, "stranded_since": "2026-11-21T08:25:00+08:00"},
    "reporter": {"name": "王某", "phone": "13800000000"},
}
_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_PERSON = {"type": "object", "properties": {"name": _TEXT, "phone": _TEXT}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["incident_id", "plan", "kind", "occurred_at"],
    "properties": {
        "incident_id": {"type": "string", "format": "uuid"},
        "plan": _TEXT,
        "kind": {"type": "string", "description": "Of special equipment: the equipment."},
        "occurred_at": _TIME,
        "position": {"description": "[lon, lat], or text as people type it."},
        "crs": {"type": "string", "description": "WGS84 where not said."},
        "accuracy_m": {"type": "number", "minimum": 0},
        "device_time": _TIME,
        "facility_id": _TEXT,
        "address": _TEXT,
        "description": _TEXT,
        "facts": {"type": "object", "description": "Those of the plan; others are refused."},
        "reporter": _PERSON,
        "source": _TEXT,
        "hotline": {
            "type": "object",
            "required": ["order_number"],
            "properties": {
                "order_number": _TEXT,
                "category": _TEXT,
                "address_text": _TEXT,
                "received_at": _TIME,
                "life_safety": {"type": "boolean"},
                "caller": _PERSON,
                "emergency_line": _TEXT,
                "unit": _TEXT,
                "told_at": _TIME,
                "city_office_informed_at": _TIME,
            },
        },
    },
}


@router.post(
    "/v1/incidents",
    summary="Submit an incident",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": SCHEMA, "example": EXAMPLE}},
        },
        "responses": {
            "200": {"description": "Stored before with the same body"},
            "409": {"description": "The id holds another body"},
        },
    },
)
def submit_incident(
    services: ServicesDep, account: Caller, body: Body, content_type: ContentType, lang: LangDep
) -> Response:
    """Safe to repeat: the same id and body is one incident. Nothing is dropped for its place.
    `unread` names members nothing was read from."""
    submitted = parse_json(body)
    with meant(submitted, SCHEMA):
        stored = store_incident(
            services.engine,
            submitted,
            body=body,
            account=account,
            packs=services.packs,
            lang=lang,
            content_type=content_type,
        )
    strange = unread(submitted, SCHEMA)
    status = 201 if stored.status == "created" else 200
    headers = {
        "ETag": f'"{stored.version}"',
        "Location": f"/v1/incidents/{stored.json['incident_id']}",
    }
    more = {"unread": strange} if strange else {}
    return json_answer(stored.json | more, status, headers=headers)


@router.get("/v1/incidents", summary="Incidents within the caller's districts")
def incidents(
    request: Request,
    services: ServicesDep,
    account: Caller,
    lang: LangDep,
    at: At,
    bbox: BBoxDep,
    since: Annotated[
        str | None,
        Query(description="Occurred then or later", examples=["2026-11-21T00:00:00+08:00"]),
    ] = None,
    plan: Annotated[str | None, Query(max_length=100)] = None,
    adcode: Annotated[str | None, Query(pattern=r"^[0-9]{6}$")] = None,
    state: Annotated[list[State] | None, Query()] = None,
    possible: Annotated[
        bool | None, Query(description="true: only what may happen; false: only what has")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Response:
    """GeoJSON, newest first; one's own submissions always, reporters only for those who may.
    `state=open` stands for reported, verified and active; `at` shows them as known then."""
    earliest = None
    if since is not None:
        try:
            # a + that was not escaped arrives as a space
            earliest = parse_time(re.sub(r" (?=\d{2}:\d{2}$)", "+", since))
        except ValueError as error:
            raise InvalidInput([Fault(str(error), None, "since")]) from None
    found = list_incidents(
        services.engine,
        account,
        services.packs,
        at=at,
        bbox=bbox,
        since=earliest,
        plan=plan,
        adcode=adcode,
        states=_states(state or ()),
        possible=possible,
        limit=limit,
        offset=offset,
        lang=lang,
    )
    note_rows(request, len(found["features"]))
    return json_answer(found, media_type=GEOJSON)


def _states(asked: Sequence[str]) -> list[str]:
    return [one for state in asked for one in (OPEN_STATES if state == "open" else (state,))]


@router.get("/v1/incidents/{incident_id}", summary="One incident with its assessment")
def incident(services: ServicesDep, account: Caller, incident_id: UUID, lang: LangDep) -> Response:
    found = get_incident(services.engine, incident_id, account, services.packs, lang)
    headers = {"ETag": f'"{found["properties"]["version"]}"', "Cache-Control": "private, no-cache"}
    return json_answer(found, headers=headers, media_type=GEOJSON)


@router.patch(
    "/v1/incidents/{incident_id}",
    summary="Change an incident's state or facts",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "object"},
                    "example": {
                        "state": "verified",
                        "facts": {"deaths": 1},
                        "reason": "到场核实",
                    },
                }
            },
        },
        "responses": {
            "412": {"description": "Edited meanwhile: read it again"},
            "428": {"description": "If-Match is missing"},
        },
    },
)
def change_incident(
    services: ServicesDep,
    account: Caller,
    incident_id: UUID,
    body: Body,
    lang: LangDep,
    if_match: Annotated[str | None, Header()] = None,
) -> Response:
    """`If-Match` is the ETag the edit is based on. Facts are merged; null makes one unknown."""
    if if_match is None:
        return problem(428, 'send If-Match with the version, such as "1"', lang=lang)
    match = ETAG.fullmatch(if_match.strip())
    if match is None:
        raise InvalidInput([Fault('is the ETag of a version, such as "1"', None, "If-Match")])
    asked = int(match[1])
    try:
        stored = edit_incident(
            services.engine,
            incident_id,
            read_change(parse_json(body)),
            expected_version=asked,
            body=body,
            account=account,
            packs=services.packs,
            lang=lang,
        )
    except VersionMismatch:
        found = get_incident(services.engine, incident_id, account, services.packs, lang)
        newest = found["properties"]["version"]
        if asked > newest:
            raise VersionMismatch(
                f"the incident has no version {asked}; its newest is {newest}, read it first"
            ) from None
        raise
    return json_answer(stored.json, headers={"ETag": f'"{stored.version}"'})
