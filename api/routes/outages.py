"""Reported outages: a GeoJSON Feature in, the same with its split over districts out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request, Response

from api.answers import GEOJSON, json_answer
from api.audit_notes import note_rows
from api.bbox import BBoxDep
from api.deps import At, Body, Caller, ContentType, LangDep, ServicesDep
from api.members import meant, unread
from api.routing import make_router
from api.strict_json import parse_json
from data.outages import list_outages, store_outage

router = make_router("outages")

EXAMPLE: dict[str, Any] = {
    "type": "Feature",
    "geometry": {
        "type": "Polygon",
        "coordinates": [
            [[106.54, 29.55], [106.6, 29.55], [106.6, 29.58], [106.54, 29.58], [106.54, 29.55]]
        ],
    },
    "properties": {
        "outage_id": "OUT-2026-0117",
        "revision": 1,
        "facility_ids": [],
        "load_shed_kw": 120000,
        "customers_out": 84210,
        "started_at": "2026-11-21T08:05:00+08:00",
        "cause": "storm",
        "planned": False,
        "main_grid": True,
    },
}
_TIME = {"type": "string", "format": "date-time"}
_WHOLE = {"type": "integer", "minimum": 0}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "geometry", "properties"],
    "properties": {
        "type": {"const": "Feature"},
        "id": {},
        "bbox": {},
        "crs": {"description": "Of the geometry: WGS84 (default), CGCS2000, GCJ-02, BD-09 …"},
        "geometry": {"type": ["object", "null"], "description": "null: only facilities are known."},
        "properties": {
            "type": "object",
            "required": ["outage_id", "revision", "load_shed_kw", "customers_out", "started_at"],
            "properties": {
                "outage_id": {"type": "string", "maxLength": 128},
                "revision": _WHOLE,
                "operator": {"type": "string"},
                "event": {"type": "string"},
                "facility_ids": {"type": "array", "items": {"type": "string"}},
                "load_shed_kw": _WHOLE,
                "customers_out": _WHOLE,
                "restored_load_kw": _WHOLE,
                "started_at": _TIME,
                "restored_at": _TIME,
                "estimated_restoration": _TIME,
                "cause": {"type": "string", "maxLength": 200},
                "planned": {"type": "boolean", "default": False},
                "main_grid": {"type": "boolean", "default": True},
                "crs": {"type": "string"},
            },
        },
    },
}


@router.post(
    "/v1/outages",
    summary="Report an outage, or a new revision of one",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/geo+json": {"schema": SCHEMA, "example": EXAMPLE}},
        },
        "responses": {
            "200": {"description": "This revision was stored before with the same body"},
            "409": {"description": "This id and revision hold another body"},
        },
    },
)
def report_outage(
    services: ServicesDep,
    account: Caller,
    body: Body,
    content_type: ContentType,
    lang: LangDep,
    crs: Annotated[str | None, Query(max_length=40, examples=["GCJ-02"])] = None,
) -> Response:
    """The highest revision counts, in whatever order they arrive. Power is in kW. `warnings` says
    what of it reaches nothing; `unread` names members nothing was read from."""
    feature = parse_json(body)
    said = feature.get("properties") if isinstance(feature, dict) else None
    with meant(said, SCHEMA["properties"]["properties"]):
        stored = store_outage(
            services.engine,
            feature,
            body=body,
            account=account.username,
            operators=account.operators,
            crs=crs,
            lang=lang,
            content_type=content_type,
        )
    strange = [name.removeprefix("properties.") for name in unread(feature, SCHEMA)]
    status = 201 if stored.status == "created" else 200
    more = {"unread": strange} if strange else {}
    return json_answer(stored.json | more, status, media_type=GEOJSON)


@router.get("/v1/outages", summary="The newest revision of each outage")
def outages(
    request: Request,
    services: ServicesDep,
    account: Caller,
    at: At,
    bbox: BBoxDep,
    adcode: Annotated[str | None, Query(pattern=r"^[0-9]{6}$")] = None,
    open: Annotated[
        bool | None, Query(description="Only those in force, or only those not")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Response:
    """GeoJSON, open ones first. Planned outages are listed and never graded."""
    found = list_outages(
        services.engine,
        districts=account.districts,
        at=at,
        bbox=bbox,
        adcode=adcode,
        is_open=open,
        limit=limit,
        offset=offset,
    )
    note_rows(request, len(found["features"]))
    return json_answer(found, media_type=GEOJSON)
