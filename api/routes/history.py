"""Series over time: how levels, shares and reports went, in the city and in each district."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import Query, Response

from api.answers import json_answer
from api.deps import LangDep, ServicesDep
from api.language import Lang, parse_at
from api.routing import make_router
from data.history import POINTS_MAX, Question, history
from data.times import parse_duration
from geo.errors import Fault, InvalidInput
from geo.history import METRICS

router = make_router("history")

DISTRICTS_MAX = 100
EVERYWHERE = "*"
_ADCODE = re.compile(r"[0-9]{6}")

#: Why a point has no value.
REASONS: dict[str, tuple[str, str]] = {
    "no_divisions": ("当时没有已知的行政区划", "no divisions are known of that time"),
    "no_district": ("当时没有这个区县", "there was no such district then"),
    "no_plan": ("该预案当时尚未生效", "the plan was not in force then"),
    "no_facility": ("当时没有这类设施", "there was no such facility then"),
    "no_supply": ("当时没有供电设施", "there was no supply then"),
    "nothing_lost": ("没有损失，谈不上恢复", "nothing was lost, so nothing can be restored"),
    "never_reported": ("从未收到报告", "nothing was ever reported"),
}
EXAMPLE: dict[str, Any] = {
    "metric": "share_down",
    "plan": "communications-2024",
    "kinds": ["base_station", "exchange"],
    "unit": "facility",
    "from": "2026-11-21T00:00:00+00:00",
    "to": "2026-11-21T00:05:00+00:00",
    "every_s": 300.0,
    "as_of": "2026-11-21T00:04:12+00:00",
    "sequence": 92,
    "moments": [
        {
            "at": "2026-11-21T00:00:00+00:00",
            "sequence": 88,
            "as_of": "2026-11-20T23:58:40+00:00",
            "divisions": "since-2025-11-06",
            "silent": ["china_telecom"],
            "overdue": [{"operator": "china_telecom", "kind": "base_station"}],
        }
    ],
    "reports": [
        {
            "operator": "china_telecom",
            "kind": "base_station",
            "source": "site",
            "observed_at": "2026-11-20T23:39:00+00:00",
            "heard_at": "2026-11-20T23:40:02+00:00",
            "age_s": 1498.0,
            "silent": True,
            "overdue": True,
        }
    ],
    "series": [
        {
            "adcode": "500229",
            "name": "城口县",
            "points": [
                {
                    "at": "2026-11-21T00:00:00+00:00",
                    "value": 0.25,
                    "numerator": 42,
                    "denominator": 168,
                    "unknown": 30,
                    "reason": None,
                }
            ],
        }
    ],
    "reasons": {},
}


@router.get(
    "/v1/history",
    summary="A series over time of levels, shares, what is restored, causes, ages of reports",
    responses={200: {"content": {"application/json": {"example": EXAMPLE}}}},
)
def read_history(
    services: ServicesDep,
    lang: LangDep,
    metric: Annotated[
        str,
        Query(
            description=f"One of {', '.join(METRICS)}.",
            openapi_examples={
                "how levels went": {"value": "level"},
                "facilities down": {"value": "share_down"},
                "what is restored": {"value": "restored"},
                "why they are down": {"value": "causes"},
                "who reports": {"value": "report_age"},
            },
        ),
    ],
    plan: Annotated[
        str | None,
        Query(
            description="Of which plan; needed for level and restored, and elsewhere says which"
            " kinds of facility count.",
            examples=["communications-2024"],
        ),
    ] = None,
    adcode: Annotated[
        list[str] | None,
        Query(
            description="Districts, repeated or parted by commas; `*` for each. Without: the city.",
            examples=[["500103"]],
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        Query(description="Kinds of facility instead of the plan's.", examples=[["tower"]]),
    ] = None,
    begin: Annotated[
        str | None,
        Query(
            alias="from",
            description="First moment; 24 hours before `to` if left out.",
            examples=["2026-11-20T08:00:00+08:00"],
        ),
    ] = None,
    to: Annotated[
        str | None,
        Query(
            description="Last moment; now if left out or ahead.",
            examples=["2026-11-21T08:00:00+08:00"],
        ),
    ] = None,
    every: Annotated[
        str | None,
        Query(
            description=f"Between moments: 30s, 5m, 1h, 1d or PT5M; at most {POINTS_MAX} points."
            " Left out: 288 steps.",
            examples=["5m"],
        ),
    ] = None,
) -> Response:
    """Each point says what `/v1/situation?at=` says for its moment: only what had been received by
    then, under the divisions and rules in force then. What cannot be said is null with a reason,
    never zero. `moments` name who was silent or overdue, `reports` what each operator's figures
    rest on at the last one."""
    faults: list[Fault] = []
    districts = _listed(adcode)
    faults += [
        Fault("must be six digits, or * for every district", None, "adcode")
        for code in districts
        if code != EVERYWHERE and not _ADCODE.fullmatch(code)
    ][:1]
    if len(districts) > DISTRICTS_MAX:
        faults.append(Fault(f"names more than {DISTRICTS_MAX}; * is every one", None, "adcode"))
    asked: dict[str, Any] = {}
    for name, field, read, value in (
        ("begin", "from", _time, begin),
        ("end", "to", _time, to),
        ("every", "every", parse_duration, every),
    ):
        try:
            asked[name] = None if value is None else read(value)
        except ValueError as error:
            faults.append(Fault(str(error), None, field))
        except InvalidInput as error:
            faults += [Fault(fault.reason, None, field) for fault in error.faults]
    if faults:
        raise InvalidInput(faults)
    question = Question(
        metric,
        plan,
        adcodes=tuple(code for code in districts if code != EVERYWHERE),
        everywhere=EVERYWHERE in districts,
        kinds=tuple(_listed(kind)) or None,
        **asked,
    )
    answer = history(services.engine, question, services.packs, services.configuration.situation)
    return json_answer(_told(answer, lang), headers={"Cache-Control": "no-store"})


def _time(value: str) -> datetime | None:
    return parse_at(value)


def _listed(values: list[str] | None) -> list[str]:
    """Values that were repeated or parted by commas, once each."""
    parts = [part.strip() for value in values or () for part in value.split(",")]
    return list(dict.fromkeys(part for part in parts if part))


def _told(answer: dict[str, Any], lang: Lang) -> dict[str, Any]:
    """The answer in a language: names of districts, and what the reasons that occur mean."""
    met = {point["reason"] for one in answer["series"] for point in one["points"]} - {None}
    for one in answer["series"]:
        english = one.pop("name_en")
        if lang == "en" and english:
            one["name"] = english
    return answer | {"reasons": {code: REASONS[code][lang == "en"] for code in sorted(met)}}
