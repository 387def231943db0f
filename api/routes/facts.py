"""Declared facts: what a commander says under a plan, and the assessment that follows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Response

from api.answers import json_answer
from api.deps import Body, Caller, ContentType, ServicesDep
from api.routing import make_router
from api.strict_json import parse_json
from api.withheld import told_to
from data.plan_facts import read_declaration, store_facts
from data.situation import situation_now

router = make_router("facts")


@router.put(
    "/v1/plans/{plan}/facts",
    summary="Declare what no sensor knows",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["reason"],
                        "properties": {
                            "reason": {"type": "string"},
                            "facts": {"type": "object"},
                            "close_event": {"type": "boolean"},
                        },
                    },
                    "example": {
                        "reason": "国家通信保障指挥机构通知",
                        "facts": {"national_response": "II"},
                    },
                }
            },
        }
    },
)
def declare_facts(
    services: ServicesDep,
    account: Caller,
    plan: Annotated[str, Path(max_length=100)],
    body: Body,
    content_type: ContentType,
) -> Response:
    """A declaration replaces the one before it: `{}` withdraws all. Without `facts`, every member
    beside `reason` is a fact. `close_event` confirms that a power event is over."""
    pack = services.packs.at(plan, datetime.now(UTC))
    declaration = read_declaration(parse_json(body), pack)
    stored = store_facts(
        services.engine,
        pack.plan,
        declaration,
        body=body,
        account=account.username,
        content_type=content_type,
    )
    document = situation_now(services.engine, services.packs, services.configuration.situation)
    return json_answer(
        {
            **told_to(document["plans"][pack.plan], account),
            "declared": {**stored.facts},
            "revision": stored.revision,
            "sequence": stored.sequence,
        }
    )
