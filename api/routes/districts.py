"""The divisions in force now or at a past time, as GeoJSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query, Response

from api.answers import GEOJSON, json_answer
from api.deps import At, ServicesDep
from api.routing import make_router
from data.database import reading
from data.divisions import feature_collection, version_at

router = make_router("districts")

Simplify = Annotated[
    float | None,
    Query(gt=0, le=5000, description="Tolerance in metres; neighbours keep a common border."),
]


@router.get("/v1/districts", summary="Districts in force at a time")
def districts(services: ServicesDep, at: At, simplify: Simplify = None) -> Response:
    """A FeatureCollection, WGS-84, with population (null where not known), area, source and
    licence; borders taken from an older, coarser set are marked `approximate`."""
    with reading(services.engine) as connection:
        found = feature_collection(connection, version_at(connection, at), tolerance_m=simplify)
    return json_answer(found, media_type=GEOJSON)


@router.get("/v1/districts/{adcode}", summary="One district")
def district(
    services: ServicesDep,
    at: At,
    adcode: Annotated[str, Path(pattern="^[0-9]{6}$", examples=["500103"])],
    simplify: Simplify = None,
) -> Response:
    with reading(services.engine) as connection:
        version = version_at(connection, at)
        found = feature_collection(connection, version, adcode=adcode, tolerance_m=simplify)
    return json_answer(found["features"][0], media_type=GEOJSON)
