"""Asking about any region, now or at a past time."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from api.answers import json_answer
from api.deps import At, Body, Caller, ServicesDep
from api.language import parse_at
from api.parts import BuilderPart
from api.routing import make_router
from api.schemas import json_body
from api.strict_json import parse_json
from data.fields import refuse_unknown, require_object
from data.region_query import query_region
from geo.errors import Fault, InvalidInput
from geo.region import outline, read_region

router = make_router("regions")

MEMBERS = ("geometry", "crs", "radius_m", "buffer_m", "adcodes", "at", "outline")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "geometry": {"type": "object"},
        "crs": {"type": "string", "default": "WGS84"},
        "radius_m": {"type": "number", "exclusiveMinimum": 0},
        "buffer_m": {"type": "number", "exclusiveMinimum": 0},
        "adcodes": {"type": "array", "items": {"type": "string"}},
        "at": {"type": "string", "format": "date-time"},
        "outline": {"type": "boolean", "default": False},
    },
}
EXAMPLES: dict[str, Any] = {
    "polygon": {
        "geometry": {
            "type": "Polygon",
            "coordinates": [
                [[106.5, 29.5], [106.62, 29.5], [106.62, 29.6], [106.5, 29.6], [106.5, 29.5]]
            ],
        },
        "crs": "GCJ-02",
    },
    "circle": {
        "geometry": {"type": "Point", "coordinates": [106.55, 29.56]},
        "radius_m": 5000,
        "crs": "WGS84",
    },
    "line with a margin": {
        "geometry": {"type": "LineString", "coordinates": [[106.3, 29.5], [107.0, 29.9]]},
        "buffer_m": 1000,
        "crs": "WGS84",
    },
    "districts at a past time": {
        "adcodes": ["500103", "500106"],
        "at": "2026-11-21T08:00:00+08:00",
    },
}


@router.post(
    "/v1/regions/query",
    summary="What stands and happens in a region",
    openapi_extra=json_body(SCHEMA, EXAMPLES),
)
def ask_region(services: ServicesDep, account: Caller, body: Body, at: At) -> Response:
    """Areas in m² on the ellipsoid, facilities by kind and operator, residents, load, customers,
    open incidents and outages; with `at`, as known then. Facilities, incidents and outages are
    those within the account's districts and operators (`scope`). With `outline`, `region.outline`
    is the region as it was understood, GeoJSON in WGS-84."""
    given = require_object(parse_json(body), "a question about a region")
    refuse_unknown(given, MEMBERS)
    moment = read_at(given, at)
    if given.get("outline") is not None and type(given["outline"]) is not bool:
        raise InvalidInput([Fault("must be true or false", None, "outline")])
    region = read_region(given)
    answer = query_region(
        services.engine,
        region,
        services.packs,
        account=account,
        at=moment,
        area=services.get(BuilderPart).area,
    )
    if given.get("outline"):
        answer["region"]["outline"] = outline(region)
    return json_answer(answer)


def read_at(given: dict[str, Any], asked: Any) -> Any:
    """`at` of the body, else of the query. Raises InvalidInput when both are given and differ."""
    value = given.get("at")
    if value is None:
        return asked
    if not isinstance(value, str):
        raise InvalidInput([Fault("must be a time with offset", None, "at")])
    at = parse_at(value)
    if asked is not None and asked != at:
        raise InvalidInput([Fault("is said differently in the query", None, "at")])
    return at
