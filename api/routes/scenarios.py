"""What if: a scenario evaluated beside the situation, kept by name, shared, compared."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response

from api.answers import json_answer
from api.deps import At, Body, Caller, LangDep, Services, ServicesDep
from api.language import Lang, parse_at
from api.routing import make_router
from api.schemas import json_body
from api.strict_json import parse_json
from api.withheld import told_to
from data.accounts import Account
from data.fields import Fields, refuse_unknown, require_object
from data.scenario import Scenario, read_scenario, same_body
from data.scenario_run import difference, evaluate
from data.scenario_store import (
    NAME_CHARACTERS_MAX,
    list_scenarios,
    read_saved,
    retire_scenario,
    save_scenario,
    share_scenario,
)
from geo.errors import Fault, InvalidInput

router = make_router("scenarios")

MEMBERS = ("at", "hours", "changes")
SAVED_MEMBERS = (*MEMBERS, "name", "shared")
CHANGES: list[dict[str, Any]] = [
    {"adcodes": ["500103", "500108"], "kind": "base_station", "state": "down"},
    {
        "footprint": {"type": "Point", "coordinates": [106.55, 29.56]},
        "radius_m": 3000,
        "crs": "WGS84",
        "state": "down",
    },
]
EXAMPLES: dict[str, Any] = {
    "two districts without base stations": {"changes": CHANGES[:1]},
    "everything inside a flood outline": {"changes": CHANGES[1:]},
    "a substation is lost, and what follows": {
        "hours": 12,
        "changes": [
            {"facilities": ["SUB-0001"], "state": "down"},
            {"incident": {"kind": "elevator", "facts": {"people_stranded": 4}}},
        ],
    },
    "an outage that might come": {
        "changes": [
            {
                "outage": {
                    "geometry": {
                        "type": "Polygon",
                        "coordinates": [
                            [[106.5, 29.5], [106.6, 29.5], [106.6, 29.6], [106.5, 29.5]]
                        ],
                    },
                    "load_shed_kw": 120000,
                    "customers_out": 84000,
                }
            },
            {"restore": {"facilities": ["SUB-0002"]}},
        ]
    },
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["changes"],
    "properties": {
        "at": {"type": "string", "format": "date-time"},
        "hours": {"type": "number", "minimum": 0, "maximum": 168},
        "changes": {"type": "array", "items": {"type": "object"}},
    },
}
SAVED: dict[str, Any] = {
    **SCHEMA,
    "required": ["name", "changes"],
    "properties": {
        **SCHEMA["properties"],
        "name": {"type": "string"},
        "shared": {"type": "boolean", "default": False},
    },
}


@router.post(
    "/v1/scenarios/evaluate",
    summary="What would be, beside what is",
    openapi_extra=json_body(SCHEMA, EXAMPLES),
)
def evaluate_scenario(
    services: ServicesDep, account: Caller, lang: LangDep, body: Body
) -> Response:
    """`present`, `hypothetical` and `difference`: every plan's assessment and the districts. With
    `hours`, a `cascade`: what hangs on lost supply falls when its battery is empty. Nothing is
    stored."""
    given = require_object(parse_json(body), "a scenario")
    refuse_unknown(given, MEMBERS)
    scenario = read_scenario(given, parse_at)
    return json_answer(_evaluated(services, scenario, account, lang))


@router.post(
    "/v1/scenarios",
    summary="Keep a scenario by name",
    status_code=201,
    openapi_extra=json_body(
        SAVED, {"two districts": {"name": "两区基站全停", "shared": True, "changes": CHANGES[:1]}}
    )
    | {
        "responses": {
            "200": {"description": "Kept before under this name with the same body"},
            "409": {"description": "The name holds another scenario of yours"},
        }
    },
)
def keep_scenario(services: ServicesDep, account: Caller, lang: LangDep, body: Body) -> Response:
    """Evaluated and kept with its result, apart from the situation, which never reads it."""
    given = require_object(parse_json(body), "a scenario")
    refuse_unknown(given, SAVED_MEMBERS)
    faults: list[Fault] = []
    read = Fields(given, faults)
    name = read.words("name", characters_max=NAME_CHARACTERS_MAX, required=True)
    shared = read.truth("shared", False)
    if faults:
        raise InvalidInput(faults)
    scenario = read_scenario({k: v for k, v in given.items() if k in MEMBERS}, parse_at)
    saved = save_scenario(
        services.engine,
        name=(name or "").strip(),
        shared=shared,
        body=scenario.body,
        body_sha256=same_body(scenario),
        result=_evaluated(services, scenario, account, lang),
        account=account,
    )
    return json_answer(saved.json, 201 if saved.status == "created" else 200)


@router.get("/v1/scenarios", summary="Your scenarios and those shared with you")
def scenarios(services: ServicesDep, account: Caller) -> Response:
    """The newest first, without their results."""
    return json_answer({"scenarios": list_scenarios(services.engine, account)})


@router.get("/v1/scenarios/compare", summary="Two scenarios at one moment")
def compare_scenarios(
    services: ServicesDep,
    account: Caller,
    lang: LangDep,
    at: At,
    a: Annotated[UUID, Query(description="A scenario's id")],
    b: Annotated[UUID, Query(description="Another's")],
) -> Response:
    """Both evaluated anew at `at`, or now; `difference` is what b has other than a."""
    sides = {}
    for side, scenario_id in (("a", a), ("b", b)):
        saved = read_saved(services.engine, scenario_id, account)
        scenario = read_scenario({**saved["scenario"], "at": None}, lambda _: at)
        found = _evaluated(services, scenario, account, lang)
        sides[side] = {"name": saved["name"], "owner": saved["owner"], **found}
    return json_answer(
        {
            **sides,
            "difference": difference(sides["a"]["hypothetical"], sides["b"]["hypothetical"]),
        }
    )


@router.get("/v1/scenarios/{scenario_id}", summary="One scenario with its result")
def scenario_of(services: ServicesDep, account: Caller, scenario_id: UUID) -> Response:
    """`scenario` is what was supposed; `result` what came of it when it was kept."""
    # who kept it may see more than who reads it
    return json_answer(told_to(read_saved(services.engine, scenario_id, account), account))


@router.patch(
    "/v1/scenarios/{scenario_id}",
    summary="Share a scenario, or no longer",
    openapi_extra=json_body(
        {"type": "object", "required": ["shared"], "properties": {"shared": {"type": "boolean"}}},
        {"share": {"shared": True}},
    ),
)
def share(services: ServicesDep, account: Caller, scenario_id: UUID, body: Body) -> Response:
    """Only its owner may; whoever may read scenarios then sees it."""
    given = require_object(parse_json(body), "an edit of a scenario")
    refuse_unknown(given, ("shared",))
    if type(given.get("shared")) is not bool:
        raise InvalidInput([Fault("must be true or false", None, "shared")])
    return json_answer(share_scenario(services.engine, scenario_id, given["shared"], account))


@router.delete("/v1/scenarios/{scenario_id}", summary="Retire a scenario", status_code=204)
def retire(services: ServicesDep, account: Caller, scenario_id: UUID) -> Response:
    """Only its owner may. It leaves every list and its name is free again."""
    retire_scenario(services.engine, scenario_id, account)
    return Response(status_code=204)


def _evaluated(
    services: Services, scenario: Scenario, account: Account, lang: Lang
) -> dict[str, Any]:
    settings = services.configuration.situation
    found = evaluate(
        services.engine, scenario, services.packs, settings, account=account, lang=lang
    )
    return dict(told_to(found, account))
