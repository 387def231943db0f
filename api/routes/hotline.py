"""Work orders of the 12345 hotline, read back, and who was told of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Response

from api.answers import json_answer
from api.deps import Body, Caller, ServicesDep
from api.routing import make_router
from api.strict_json import parse_json
from data.hotline import order_standing, read_told, record_told

router = make_router("incidents")
OrderNumber = Annotated[str, Path(max_length=64)]
EXAMPLE = {
    "emergency_line": "119",
    "unit": "渝中区消防救援支队",
    "told_at": "2026-11-21T08:32:00+08:00",
    "city_office_informed_at": "2026-11-21T08:35:00+08:00",
}


@router.get("/v1/hotline/{order_number}", summary="How a hotline work order stands")
def order(services: ServicesDep, account: Caller, order_number: OrderNumber) -> Response:
    """Its incidents, which emergency lines were told, what a life-safety order still lacks."""
    found = order_standing(services.engine, order_number, account)
    return json_answer(found, headers={"Cache-Control": "private, no-cache"})


@router.post(
    "/v1/hotline/{order_number}/told",
    summary="Record which emergency line was told, and that the city office was informed",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}, "example": EXAMPLE}},
        }
    },
)
def told(services: ServicesDep, account: Caller, order_number: OrderNumber, body: Body) -> Response:
    """The same notice again is kept once."""
    notice = read_told(parse_json(body), datetime.now(UTC))
    found = record_told(services.engine, order_number, notice, body=body, account=account)
    return json_answer(found)
