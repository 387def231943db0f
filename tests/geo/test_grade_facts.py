"""Impossible facts are refused, all of them at once, each with its place and a remedy."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from data.rulepacks import load_packs
from geo.errors import InvalidInput
from geo.grade import assess, check_facts

PACKS = load_packs()
COMMS = PACKS.current("communications-2024")
POWER = PACKS.current("power-outage-2021")
SPECIAL = PACKS.current("special-equipment-2023")
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


def row(adcode: Any = "500101", **facts: Any) -> dict[str, Any]:
    return {"districts": [{"adcode": adcode, **facts}]}


IMPOSSIBLE = [
    (COMMS, row(facilities_total=10, facilities_down=11), "districts[0].facilities_down", "more"),
    (
        COMMS,
        row(facilities_total=10, facilities_down=6, facilities_unknown=5),
        "districts[0].facilities_down",
        "exclude each other",
    ),
    (
        COMMS,
        row(facilities_total=10, facilities_unknown=11),
        "districts[0].facilities_unknown",
        "more",
    ),
    (COMMS, row(facilities_total=-1), "districts[0].facilities_total", "negative"),
    (COMMS, row(facilities_total=1.5), "districts[0].facilities_total", "whole number"),
    (COMMS, row(facilities_total=True), "districts[0].facilities_total", "whole number"),
    (COMMS, row(facilities_total="10"), "districts[0].facilities_total", "not text"),
    (COMMS, row(facilities_total=[10]), "districts[0].facilities_total", "whole number"),
    (COMMS, row(facilities_total=10**16), "districts[0].facilities_total", "at most"),
    (
        COMMS,
        row(facilities=10),
        "districts[0].facilities",
        "known are adcode, unit, facilities_total",
    ),
    (COMMS, row(""), "districts[0].adcode", "text"),
    (COMMS, row(500101), "districts[0].adcode", "text"),
    (COMMS, row(None), "districts[0].adcode", "missing"),
    (COMMS, row("x" * 65), "districts[0].adcode", "code"),
    (COMMS, row("<script>"), "districts[0].adcode", "code"),
    (COMMS, row("500101", unit="Z-WSJK"), "districts[0].adcode", "not both"),
    (COMMS, {"districts": [{"facilities_total": 1}]}, "districts[0].adcode", "missing"),
    (COMMS, {"districts": {}}, "districts", "list"),
    (COMMS, {"districts": [5]}, "districts[0]", "object"),
    (COMMS, {"districts": [{"adcode": str(n)} for n in range(501)]}, "districts", "at most 500"),
    (COMMS, {"national_response": "V"}, "national_response", "one of I, II, III, IV"),
    (COMMS, {"national_response": 1}, "national_response", "one of"),
    (COMMS, {"exceeds_city_capacity": 1}, "exceeds_city_capacity", "true, false or null"),
    (COMMS, {"level": 1}, "level", "unknown fact; known are districts, national_response"),
    (POWER, {"city": {"load_mw": float("nan")}}, "city.load_mw", "finite"),
    (POWER, {"city": {"load_mw": float("inf")}}, "city.load_mw", "finite"),
    (POWER, {"city": {"load_mw": Decimal("Infinity")}}, "city.load_mw", "finite"),
    (POWER, {"city": {"load_mw": 5, "load_shed_mw": 5.001}}, "city.load_shed_mw", "more"),
    (POWER, {"city": {"customers": 5, "customers_out": 6}}, "city.customers_out", "more"),
    (POWER, {"city": []}, "city", "object"),
    (POWER, {"city": {"adcode": "500101"}}, "city.adcode", "unknown fact"),
    (POWER, row("Z-WSJK"), "districts[0].adcode", "functional zone"),
    (POWER, row("500101", load_mw=1, load_shed_mw=2), "districts[0].load_shed_mw", "more"),
    (SPECIAL, {"equipment": "lift"}, "equipment", "one of boiler"),
    (SPECIAL, {"deaths": -1}, "deaths", "negative"),
    (SPECIAL, {"site": ""}, "site", "one of"),
    (SPECIAL, {"districts": []}, "districts", "unknown fact"),
    (SPECIAL, {"stranded_since": "2026-07-01"}, "stranded_since", "offset"),
    (SPECIAL, {"stranded_since": "yesterday"}, "stranded_since", "time such as"),
    (SPECIAL, {"stranded_since": 1750000000}, "stranded_since", "time such as"),
    (SPECIAL, {"stranded_until": "2026-07-01T08:00:00Z"}, "stranded_until", "stranded_since"),
    (
        SPECIAL,
        {"stranded_since": "2026-07-01T08:00:00Z", "stranded_until": "2026-07-01T07:59:59Z"},
        "stranded_until",
        "before stranded_since",
    ),
    (
        SPECIAL,
        {"stranded_since": "2026-07-01T08:00:00Z", "stranded_hours": 2},
        "stranded_hours",
        "not both",
    ),
]


@pytest.mark.parametrize(("pack", "facts", "field", "reason"), IMPOSSIBLE)
def test_an_impossible_fact_is_refused_with_its_place_and_why(
    pack: Any, facts: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_facts(pack, facts)
    assert [fault.field for fault in refused.value.faults] == [field]
    assert reason in refused.value.faults[0].reason
    with pytest.raises(InvalidInput):
        assess(pack, facts, now=NOW)


@pytest.mark.parametrize("facts", [None, [], "facts", 3])
def test_facts_that_are_no_object_are_refused(facts: Any) -> None:
    with pytest.raises(InvalidInput, match="object"):
        check_facts(COMMS, facts)


def test_every_fault_is_named_at_once() -> None:
    facts = {
        "national_response": "V",
        "districts": [
            {"adcode": "500101", "facilities_total": 1, "facilities_down": 2},
            {"adcode": "500102", "facilities_down": -1},
            {"adcode": "500101", "extra": 1},
        ],
    }
    with pytest.raises(InvalidInput) as refused:
        check_facts(COMMS, facts)
    assert [fault.field for fault in refused.value.faults] == [
        "national_response",
        "districts[0].facilities_down",
        "districts[1].facilities_down",
        "districts[2].adcode",
        "districts[2].extra",
    ]
    assert "twice" in refused.value.faults[3].reason


def test_the_zone_and_a_district_are_two_units_under_either_key() -> None:
    facts = {
        "districts": [
            {"adcode": "500110", "facilities_total": 2, "facilities_down": 1},
            {"unit": "Z-WSJK", "facilities_total": 2, "facilities_down": 1},
        ]
    }
    assessment = assess(COMMS, facts, now=NOW)
    assert assessment["level"] == 2
    assert assessment["findings"][0]["districts"] == ["500110", "Z-WSJK"]


def test_numbers_of_other_libraries_are_read_and_the_answer_is_plain_json() -> None:
    facts = row("500101", facilities_total=np.int64(10), facilities_down=Decimal(5))
    assessment = assess(COMMS, facts, now=NOW)
    assert assessment["level"] == 3
    assert json.loads(json.dumps(assessment, allow_nan=False)) == assessment
    assert assessment["facts"]["districts"][0] == {
        "adcode": "500101",
        "facilities_total": 10,
        "facilities_down": 5,
    }
    shed = {"city": {"load_mw": np.float64(0.3), "load_shed_mw": np.float64(0.03)}}
    assert assess(POWER, shed, now=NOW)["level"] == 3


def test_facts_are_echoed_as_given_and_not_changed() -> None:
    since = datetime(2026, 7, 1, 8, tzinfo=UTC)
    facts = {"equipment": "elevator", "stranded_since": since, "people_stranded": None}
    echoed = assess(SPECIAL, facts, now=NOW)["facts"]
    assert echoed == {
        "equipment": "elevator",
        "stranded_since": since.isoformat(),
        "people_stranded": None,
    }
    assert facts["stranded_since"] is since


def test_good_facts_pass_in_every_plan() -> None:
    for pack in (COMMS, POWER, SPECIAL):
        check_facts(pack, {})
    check_facts(COMMS, row(facilities_total=3.0, facilities_down=0))
    check_facts(SPECIAL, {"site": None, "possible": None, "stranded_hours": None})
