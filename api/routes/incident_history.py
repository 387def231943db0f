"""What became of an incident: its versions, and merging reports of one accident."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from fastapi import Response

from api.answers import json_answer
from api.deps import Body, Caller, LangDep, ServicesDep
from api.routing import make_router
from api.strict_json import parse_json
from data.incident_distinct import mark_distinct, read_distinction
from data.incident_history import incident_history
from data.incident_merge import Merge, merge_incident, read_merge, read_unmerge

router = make_router("incidents")


def _described(example: dict[str, Any]) -> dict[str, Any]:
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}, "example": example}},
        },
        "responses": {"409": {"description": "Its state, or the other's, forbids it"}},
    }


@router.get("/v1/incidents/{incident_id}/history", summary="Every version of an incident")
def history(services: ServicesDep, account: Caller, incident_id: UUID, lang: LangDep) -> Response:
    """Who changed what, when and why; bodies refused as conflicts for those who may read them."""
    found = incident_history(services.engine, incident_id, account, lang)
    return json_answer(found, headers={"Cache-Control": "private, no-cache"})


@router.post(
    "/v1/incidents/{incident_id}/merge",
    summary="Put an incident aside as another report of the same accident",
    openapi_extra=_described(
        {"into": "0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6b", "reason": "同一起事故"}
    ),
)
def merge(
    services: ServicesDep, account: Caller, incident_id: UUID, body: Body, lang: LangDep
) -> Response:
    """Both records stay; facts are not added up. The same again changes nothing."""
    return _merged(services, account, incident_id, body, lang, read_merge)


@router.post(
    "/v1/incidents/{incident_id}/unmerge",
    summary="Take a merge back",
    openapi_extra=_described({"reason": "是两起事故"}),
)
def unmerge(
    services: ServicesDep, account: Caller, incident_id: UUID, body: Body, lang: LangDep
) -> Response:
    """The incident has the state again that it had before it was merged."""
    return _merged(services, account, incident_id, body, lang, read_unmerge)


@router.post(
    "/v1/incidents/{incident_id}/distinct",
    summary="Say that two incidents are two accidents",
    openapi_extra=_described(
        {"other": "0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6b", "reason": "是两起事故"}
    ),
)
def distinct(services: ServicesDep, account: Caller, incident_id: UUID, body: Body) -> Response:
    """Neither is the other's probable duplicate any more; merging them takes it back."""
    given = read_distinction(parse_json(body))
    found = mark_distinct(services.engine, incident_id, given, body=body, account=account)
    return json_answer(found)


def _merged(
    services: ServicesDep,
    account: Caller,
    incident_id: UUID,
    body: bytes,
    lang: str,
    read: Callable[[Any], Merge],
) -> Response:
    stored = merge_incident(
        services.engine,
        incident_id,
        read(parse_json(body)),
        body=body,
        account=account,
        packs=services.packs,
        lang=lang,
    )
    return json_answer(stored.json, headers={"ETag": f'"{stored.version}"'})
