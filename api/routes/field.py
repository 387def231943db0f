"""The field teams' page, its map and the worker that keeps both on the phone."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import Request, Response

from api.answers import page_answer, tagged_answer
from api.deps import Services, ServicesDep
from api.routing import make_router
from data.database import reading
from data.divisions import DivisionVersion, feature_collection, version_at
from maps.field_page import PAGE_URL, WORKER_CSP, render_field, render_worker
from maps.page import Page

#: Borders may stray this far, in metres; the server decides where a position lies.
TOLERANCE_M = 300.0
DEGREE_DECIMALS = 4

router = make_router("pages")

_kept: dict[tuple[str, DivisionVersion], bytes] = {}


@router.get("/field", include_in_schema=False)
def field(request: Request, services: ServicesDep) -> Response:
    return page_answer(_page(services), request=request)


@router.get("/field/districts.json", include_in_schema=False)
def districts(request: Request, services: ServicesDep) -> Response:
    body = _districts(services)
    return tagged_answer(request, body, _etag(body))


@router.get("/field/worker.js", include_in_schema=False)
def worker(request: Request, services: ServicesDep) -> Response:
    body = render_worker(_page(services), _districts(services))
    headers = {"Service-Worker-Allowed": PAGE_URL, "Content-Security-Policy": WORKER_CSP}
    kind = "text/javascript; charset=utf-8"
    return tagged_answer(request, body, _etag(body), media_type=kind, headers=headers)


def _etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _page(services: Services) -> Page:
    in_force = services.packs.in_force(datetime.now(UTC))
    return render_field({lang: [p.as_json(lang) for p in in_force] for lang in ("zh", "en")})


def _districts(services: Services) -> bytes:
    """Names and simplified borders; kept, since a version's borders never change."""
    with reading(services.engine) as connection:
        version = version_at(connection, None)
        key = (services.configuration.database_url, version)
        if key not in _kept:
            whole = feature_collection(connection, version, tolerance_m=TOLERANCE_M)
            _kept[key] = orjson.dumps(
                {"type": "FeatureCollection", "features": [_slim(f) for f in whole["features"]]}
            )
    return _kept[key]


def _slim(feature: dict[str, Any]) -> dict[str, Any]:
    shape, told = feature["geometry"], feature["properties"]
    return {
        "type": "Feature",
        "properties": {name: told.get(name) for name in ("adcode", "name", "name_en")},
        "geometry": {"type": shape["type"], "coordinates": _rounded(shape["coordinates"])},
    }


def _rounded(numbers: Any) -> Any:
    if isinstance(numbers, float | int):
        return round(numbers, DEGREE_DECIMALS)
    return [_rounded(one) for one in numbers]
