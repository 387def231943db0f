"""The plans' rules as data, and what-if: facts in, assessment out, nothing stored."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import orjson
from fastapi import Request, Response

from api.answers import json_answer, tagged_answer
from api.deps import At, Body, LangDep, ServicesDep
from api.routing import make_router
from api.schemas import json_body
from api.strict_json import parse_json
from data.rulepacks import RulePacks
from geo.grade import RulePack, assess

router = make_router("plans")

FACTS = {
    "communications": {
        "districts": [
            {"adcode": "500103", "facilities_total": 900, "facilities_down": 450},
            {"adcode": "500106", "facilities_total": 1200, "facilities_unknown": 30},
        ],
        "national_response": None,
    },
    "power": {
        "city": {
            "load_mw": 20000,
            "load_shed_mw": 3000,
            "customers": 16000000,
            "customers_out": 900000,
        }
    },
    "special equipment": {"equipment": "elevator", "people_stranded": 6, "stranded_hours": 2.5},
}


@router.get("/v1/plans", summary="The rules of every plan in force")
def plans(request: Request, services: ServicesDep, lang: LangDep, at: At) -> Response:
    """`plans`: every criterion with its clause, the facts it needs, the plan's dates."""
    packs: RulePacks = services.packs
    in_force = tuple(packs.in_force(at or datetime.now(UTC)))
    body = orjson.dumps({"plans": [pack.as_json(lang) for pack in in_force]})
    return tagged_answer(request, body, _etag(body))


@router.get("/v1/plans/{plan}", summary="The rules of one plan")
def plan_rules(
    request: Request, services: ServicesDep, lang: LangDep, at: At, plan: str
) -> Response:
    """The version in force at `at`, or now."""
    body = orjson.dumps(_pack(services.packs, plan, at).as_json(lang))
    return tagged_answer(request, body, _etag(body))


@router.post(
    "/v1/plans/{plan}/assess",
    summary="What these facts would mean",
    openapi_extra=json_body({"type": "object"}, FACTS),
)
def assess_facts(services: ServicesDep, plan: str, body: Body, at: At) -> Response:
    """The assessment of the facts in the body at `at`, or now; nothing is stored.

    A fact that is null or absent is unknown: it widens `bounds`. Impossible facts are a 422.
    """
    pack = _pack(services.packs, plan, at)
    return json_answer(assess(pack, parse_json(body), now=at))


def _pack(packs: RulePacks, plan: str, at: datetime | None) -> RulePack:
    return packs.current(plan) if at is None else packs.at(plan, at)


def _etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'
