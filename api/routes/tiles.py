"""Vector tiles of the facilities."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path, Query, Request, Response

from api.answers import REVALIDATE, has_etag
from api.deps import Caller, ServicesDep
from api.routing import make_router
from data.facility_columns import KINDS
from data.facility_tiles import (
    SINGLE_FROM_ZOOM,
    TileCache,
    check_tile,
    facility_tile,
    tiles_etag,
)
from geo.errors import Fault, InvalidInput

router = make_router("tiles")

MVT = "application/vnd.mapbox-vector-tile"
State = Literal["up", "unknown", "degraded", "down"]
Place = Annotated[int, Path(ge=0, le=2**22)]


@router.get(
    "/tiles/facilities/{z}/{x}/{y}.mvt",
    summary="Facilities as a vector tile",
    response_class=Response,
    responses={200: {"content": {MVT: {}}}, 304: {"description": "Not changed since that ETag"}},
)
def tile(
    request: Request,
    services: ServicesDep,
    account: Caller,
    z: Place,
    x: Place,
    y: Place,
    kind: Annotated[str | None, Query(max_length=40)] = None,
    state: State | None = None,
) -> Response:
    """Layer `facilities`. Below zoom 14 counts on a grid, `aggregated` true; from there each one.
    `total` adds up to the inventory at every zoom; `down`, `degraded`, `unknown` and `synthetic`
    are counts too. Only the caller's districts and operators."""
    check_tile(z, x, y)
    if kind is not None and kind not in KINDS:
        raise InvalidInput([Fault(f"must be one of {', '.join(KINDS)}", None, "kind")])
    etag = tiles_etag(services.engine, account.scope, (z, x, y, kind, state))
    headers = {"ETag": etag, "Cache-Control": REVALIDATE}
    if has_etag(request, etag):
        return Response(status_code=304, headers=headers)

    def make() -> bytes:
        return facility_tile(services.engine, z, x, y, scope=account.scope, kind=kind, state=state)

    found = services.get(TileCache).get(etag, make) if z < SINGLE_FROM_ZOOM else make()
    return Response(found, headers=headers, media_type=MVT)
