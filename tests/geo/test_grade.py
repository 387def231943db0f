"""Every criterion of the three plans at its bound, just below and just above it.

`BY_HAND` is typed from the plans' texts, not from the packs: a wrong number in a TOML turns it red.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from data.rulepacks import load_packs
from geo.errors import InvalidInput
from geo.grade import assess, district_levels, next_clock_change, worst_of

PACKS = load_packs()
COMMS = PACKS.current("communications-2024")
POWER = PACKS.current("power-outage-2021")
SPECIAL = PACKS.current("special-equipment-2023")
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)

Facts = dict[str, Any]
# Everything of an incident known and harmless, so that one fact at a time can be set.
HARMLESS: Facts = {
    "equipment": "in_plant_vehicle",
    "deaths": 0,
    "serious_injuries": 0,
    "direct_loss_yuan": 0,
    "exploded": False,
    "boiler_mw": 0,
    "safety_fault": False,
    "shutdown_hours": 0,
    "toxic_leak": False,
    "people_relocated": 0,
    "people_stranded": 0,
    "stranded_hours": 0,
    "overturned": False,
    "structure_broken": False,
    "hoist_fell": False,
}


def incident(**facts: Any) -> Facts:
    return HARMLESS | facts


def comms(*districts: tuple[int | None, int | None], **facts: Any) -> Facts:
    """Districts as (total, down), numbered from 500101."""
    rows = [
        {"adcode": str(500101 + n), "facilities_total": total, "facilities_down": down}
        for n, (total, down) in enumerate(districts)
    ]
    return {"districts": rows, **facts}


def city(load: Any, shed: Any, customers: Any, out: Any) -> Facts:
    names = ("load_mw", "load_shed_mw", "customers", "customers_out")
    return {"city": dict(zip(names, (load, shed, customers, out), strict=True))}


def district(load: Any, shed: Any, customers: Any, out: Any, adcode: str = "500101") -> Facts:
    names = ("load_mw", "load_shed_mw", "customers", "customers_out")
    return {"adcode": adcode, **dict(zip(names, (load, shed, customers, out), strict=True))}


def power(*districts: Facts) -> Facts:
    return {**city(30000, 0, 1000000, 0), "districts": list(districts)}


def clauses(assessment: Facts, level: int | None = None) -> set[str]:
    return {f["clause"] for f in assessment["findings"] if level in (None, f["level"])}


def leak(equipment: str, people: int) -> Facts:
    return incident(equipment=equipment, toxic_leak=True, people_relocated=people)


def stranded(equipment: str, people: int, hours: float) -> Facts:
    return incident(equipment=equipment, people_stranded=people, stranded_hours=hours)


def outage(mw: float, hours: float, fault: bool = True) -> Facts:
    return incident(equipment="boiler", boiler_mw=mw, shutdown_hours=hours, safety_fault=fault)


# (plan, facts, level, clause that gives it); None: ungraded. Typed by hand from the plans.
BY_HAND: list[tuple[str, Facts, int | None, str | None]] = [
    # communications, 1.6
    ("comms", comms((100, 0)), None, None),
    ("comms", comms((100, 1)), 4, "1.6.4"),
    ("comms", comms((100, 49)), 4, "1.6.4"),
    ("comms", comms((100, 50)), 3, "1.6.3(1)"),
    ("comms", comms((101, 50)), 4, "1.6.4"),
    ("comms", comms((101, 51)), 3, "1.6.3(1)"),
    ("comms", comms((100, 100)), 3, "1.6.3(1)"),
    ("comms", comms((100, 1), (100, 1)), 3, "1.6.3(1)"),
    ("comms", comms((100, 50), (100, 49)), 3, "1.6.3(1)"),
    ("comms", comms((100, 50), (100, 50)), 2, "1.6.2(1)"),
    ("comms", comms(*[(100, 100)] * 38), 2, "1.6.2(1)"),
    ("comms", {"national_response": "I"}, 1, "1.6.1(1)"),
    ("comms", {"national_response": "II"}, 1, "1.6.1(1)"),
    ("comms", {"national_response": "III"}, 2, "1.6.2(2)"),
    ("comms", {"national_response": "IV"}, 3, "1.6.3(2)"),
    ("comms", {"exceeds_city_capacity": True}, 1, "1.6.1(2)"),
    ("comms", {"municipal_key_service_down": True}, 2, "1.6.2(3)"),
    ("comms", {"district_key_service_down": True}, 3, "1.6.3(3)"),
    ("comms", {"exceeds_city_capacity": False}, None, None),
    # power, 1.5: the city's shares of load
    ("power", city(30000, 1499.999, 1000000, 0), None, None),
    ("power", city(30000, 1500, 1000000, 0), 4, "1.5.4(1)"),
    ("power", city(30000, 2999.999, 1000000, 0), 4, "1.5.4(1)"),
    ("power", city(30000, 3000, 1000000, 0), 3, "1.5.3(1)"),
    ("power", city(30000, 5999.999, 1000000, 0), 3, "1.5.3(1)"),
    ("power", city(30000, 6000, 1000000, 0), 2, "1.5.2(1)"),
    ("power", city(30000, 14999.999, 1000000, 0), 2, "1.5.2(1)"),
    ("power", city(30000, 15000, 1000000, 0), 1, "1.5.1(1)"),
    # its shares of customers
    ("power", city(30000, 0, 1000000, 99999), None, None),
    ("power", city(30000, 0, 1000000, 100000), 4, "1.5.4(2)"),
    ("power", city(30000, 0, 1000000, 149999), 4, "1.5.4(2)"),
    ("power", city(30000, 0, 1000000, 150000), 3, "1.5.3(2)"),
    ("power", city(30000, 0, 1000000, 299999), 3, "1.5.3(2)"),
    ("power", city(30000, 0, 1000000, 300000), 2, "1.5.2(2)"),
    ("power", city(30000, 0, 1000000, 599999), 2, "1.5.2(2)"),
    ("power", city(30000, 0, 1000000, 600000), 1, "1.5.1(2)"),
    # districts of 150 MW and more
    ("power", power(district(150, 59.999, 1000, 0)), None, None),
    ("power", power(district(150, 60, 1000, 0)), 4, "1.5.4(3)"),
    ("power", power(district(150, 89.999, 1000, 0)), 4, "1.5.4(3)"),
    ("power", power(district(150, 90, 1000, 0)), 3, "1.5.3(3)"),
    ("power", power(district(150, 150, 1000, 1000)), 3, "1.5.3(3)"),
    ("power", power(district(150, 0, 1000, 499)), None, None),
    ("power", power(district(150, 0, 1000, 500)), 4, "1.5.4(3)"),
    ("power", power(district(150, 0, 1000, 699)), 4, "1.5.4(3)"),
    ("power", power(district(150, 0, 1000, 700)), 3, "1.5.3(3)"),
    # under 150 MW
    ("power", power(district(149.999, 59.9996, 1000, 0)), 4, "1.5.4(4)"),
    ("power", power(district(149, 59.599, 1000, 0)), None, None),
    ("power", power(district(149, 59.6, 1000, 0)), 4, "1.5.4(4)"),
    ("power", power(district(149, 149, 1000, 1000)), 4, "1.5.4(4)"),
    ("power", power(district(149, 0, 1000, 499)), None, None),
    ("power", power(district(149, 0, 1000, 500)), 4, "1.5.4(4)"),
    # special equipment, 1.5: people and money
    ("special", incident(), None, None),
    ("special", incident(deaths=1), 4, "1.5.4(1)"),
    ("special", incident(deaths=2), 4, "1.5.4(1)"),
    ("special", incident(deaths=3), 3, "1.5.3(1)"),
    ("special", incident(deaths=9), 3, "1.5.3(1)"),
    ("special", incident(deaths=10), 2, "1.5.2(1)"),
    ("special", incident(deaths=29), 2, "1.5.2(1)"),
    ("special", incident(deaths=30), 1, "1.5.1(1)"),
    ("special", incident(serious_injuries=1), 4, "1.5.4(2)"),
    ("special", incident(serious_injuries=9), 4, "1.5.4(2)"),
    ("special", incident(serious_injuries=10), 3, "1.5.3(2)"),
    ("special", incident(serious_injuries=49), 3, "1.5.3(2)"),
    ("special", incident(serious_injuries=50), 2, "1.5.2(2)"),
    ("special", incident(serious_injuries=99), 2, "1.5.2(2)"),
    ("special", incident(serious_injuries=100), 1, "1.5.1(2)"),
    ("special", incident(direct_loss_yuan=9999.99), None, None),
    ("special", incident(direct_loss_yuan=10000), 4, "1.5.4(3)"),
    ("special", incident(direct_loss_yuan=9999999.99), 4, "1.5.4(3)"),
    ("special", incident(direct_loss_yuan=10000000), 3, "1.5.3(3)"),
    ("special", incident(direct_loss_yuan=49999999.99), 3, "1.5.3(3)"),
    ("special", incident(direct_loss_yuan=50000000), 2, "1.5.2(3)"),
    ("special", incident(direct_loss_yuan=99999999.99), 2, "1.5.2(3)"),
    ("special", incident(direct_loss_yuan=100000000), 1, "1.5.1(3)"),
    # explosions and the boiler's outage
    ("special", incident(equipment="boiler", boiler_mw=599.999, exploded=True), 3, "1.5.3(4)"),
    ("special", incident(equipment="boiler", boiler_mw=600, exploded=True), 1, "1.5.1(4)"),
    ("special", incident(equipment="pressure_vessel", exploded=True), 3, "1.5.3(4)"),
    ("special", incident(equipment="gas_cylinder", exploded=True), 3, "1.5.3(4)"),
    ("special", incident(equipment="pressure_pipeline", exploded=True), 3, "1.5.3(4)"),
    ("special", incident(equipment="elevator", exploded=True), None, None),
    ("special", incident(equipment="pressure_vessel", exploded=True, boiler_mw=700), 3, "1.5.3(4)"),
    ("special", outage(600, 239.999), None, None),
    ("special", outage(600, 240), 2, "1.5.2(4)"),
    ("special", outage(599.999, 240), None, None),
    ("special", outage(600, 240, fault=False), None, None),
    # toxic leaks
    ("special", leak("pressure_vessel", 499), None, None),
    ("special", leak("pressure_vessel", 500), 4, "1.5.4(4)"),
    ("special", leak("gas_cylinder", 9999), 4, "1.5.4(4)"),
    ("special", leak("gas_cylinder", 10000), 3, "1.5.3(5)"),
    ("special", leak("pressure_pipeline", 49999), 3, "1.5.3(5)"),
    ("special", leak("pressure_pipeline", 50000), 2, "1.5.2(5)"),
    ("special", leak("pressure_pipeline", 149999), 2, "1.5.2(5)"),
    ("special", leak("pressure_pipeline", 150000), 1, "1.5.1(5)"),
    ("special", leak("boiler", 150000), None, None),
    ("special", incident(equipment="pressure_vessel", people_relocated=150000), None, None),
    # cranes
    ("special", incident(equipment="crane", overturned=True), 3, "1.5.3(6)"),
    ("special", incident(equipment="crane", structure_broken=True), 4, "1.5.4(6)"),
    ("special", incident(equipment="crane", hoist_fell=True), 4, "1.5.4(6)"),
    ("special", incident(equipment="in_plant_vehicle", overturned=True), None, None),
    # stranding
    ("special", stranded("elevator", 1, 1.999), None, None),
    ("special", stranded("elevator", 1, 2), 4, "1.5.4(5)"),
    ("special", stranded("elevator", 120, 60), 4, "1.5.4(5)"),
    ("special", stranded("elevator", 0, 60), None, None),
    ("special", stranded("passenger_ropeway", 1, 3.499), None, None),
    ("special", stranded("passenger_ropeway", 1, 3.5), 4, "1.5.4(7)"),
    ("special", stranded("passenger_ropeway", 1, 11.999), 4, "1.5.4(7)"),
    ("special", stranded("passenger_ropeway", 1, 12), 3, "1.5.3(7)"),
    ("special", stranded("passenger_ropeway", 100, 23.999), 3, "1.5.3(7)"),
    ("special", stranded("passenger_ropeway", 99, 60), 3, "1.5.3(7)"),
    ("special", stranded("passenger_ropeway", 100, 24), 2, "1.5.2(6)"),
    ("special", stranded("passenger_ropeway", 100, 47.999), 2, "1.5.2(6)"),
    ("special", stranded("passenger_ropeway", 100, 48), 1, "1.5.1(6)"),
    ("special", stranded("large_amusement_ride", 1, 0.999), None, None),
    ("special", stranded("large_amusement_ride", 1, 1), 4, "1.5.4(8)"),
    ("special", stranded("large_amusement_ride", 1, 12), 3, "1.5.3(7)"),
    ("special", stranded("large_amusement_ride", 100, 48), 1, "1.5.1(6)"),
    ("special", stranded("crane", 100, 48), None, None),
]
# A hair below the bound, and every kind of equipment a criterion names, or does not.
BY_HAND += [
    ("comms", comms((1_000_000, 499_999)), 4, "1.6.4"),
    ("comms", comms((1_000_000, 500_000)), 3, "1.6.3(1)"),
    ("comms", comms((1_000_000, 500_000), (1_000_000, 499_999)), 3, "1.6.3(1)"),
    ("power", power(district(150, 0, 1_000_000, 699_999)), 4, "1.5.4(3)"),
    ("power", power(district(150, 0, 1_000_000, 499_999)), None, None),
    ("power", power(district(149, 0, 1_000_000, 499_999)), None, None),
    ("special", stranded("passenger_ropeway", 100, 47.9999999), 2, "1.5.2(6)"),
    ("special", stranded("passenger_ropeway", 100, 23.9999999), 3, "1.5.3(7)"),
    ("special", stranded("large_amusement_ride", 99, 23.9999999), 3, "1.5.3(7)"),
    ("special", stranded("large_amusement_ride", 100, 24), 2, "1.5.2(6)"),
    ("special", stranded("large_amusement_ride", 1, 11.9999999), 4, "1.5.4(8)"),
    ("special", stranded("large_amusement_ride", 1, 0.9999999), None, None),
    ("special", stranded("passenger_ropeway", 1, 3.4999999), None, None),
    ("special", stranded("elevator", 1, 1.9999999), None, None),
    ("special", stranded("passenger_ropeway", 0, 48), None, None),
    ("special", stranded("large_amusement_ride", 0, 48), None, None),
    ("special", outage(600, 239.9999999), None, None),
    ("special", outage(600, 240) | {"equipment": "pressure_vessel"}, None, None),
    ("special", incident(equipment="elevator", structure_broken=True), None, None),
    ("special", incident(equipment="elevator", hoist_fell=True), None, None),
]
for vessel in ("pressure_vessel", "gas_cylinder", "pressure_pipeline"):
    BY_HAND += [
        ("special", leak(vessel, 500), 4, "1.5.4(4)"),
        ("special", leak(vessel, 10_000), 3, "1.5.3(5)"),
        ("special", leak(vessel, 50_000), 2, "1.5.2(5)"),
        ("special", leak(vessel, 150_000), 1, "1.5.1(5)"),
    ]
for other in ("boiler", "elevator", "crane", "passenger_ropeway", "in_plant_vehicle"):
    BY_HAND.append(("special", leak(other, 150_000), None, None))

PACK = {"comms": COMMS, "power": POWER, "special": SPECIAL}


@pytest.mark.parametrize(("plan", "facts", "level", "clause"), BY_HAND)
def test_each_bound_gives_the_level_and_clause_typed_from_the_plan(
    plan: str, facts: Facts, level: int | None, clause: str | None
) -> None:
    assessment = assess(PACK[plan], facts, now=NOW)
    assert assessment["level"] == level
    assert assessment["label"] == (None if level is None else "ⅠⅡⅢⅣ"[level - 1])
    if clause is None:
        assert assessment["findings"] == []
    else:
        assert clause in clauses(assessment, level)
    levels = [finding["level"] for finding in assessment["findings"]]
    assert levels == sorted(levels)


def test_the_table_typed_by_hand_has_every_criterion_of_every_pack() -> None:
    for plan, pack in PACK.items():
        typed = {clause for name, _, _, clause in BY_HAND if name == plan and clause}
        assert typed == {criterion.clause for criterion in pack.criteria}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (district(150, 60, 1000, 0), {"1.5.4(3)"}),
        (district(150, 0, 1000, 500), {"1.5.4(3)"}),
        (district(149.999, 149.999, 1000, 0), {"1.5.4(4)"}),
        (district(149.999, 0, 1000, 1000), {"1.5.4(4)"}),
        (district(150, 90, 1000, 0), {"1.5.3(3)", "1.5.4(3)"}),
    ],
)
def test_a_district_is_graded_by_the_clause_of_its_class_only(
    facts: Facts, expected: set[str]
) -> None:
    assert clauses(assess(POWER, power(facts), now=NOW)) == expected


def test_severity_and_colour_are_the_plans_words() -> None:
    large = assess(SPECIAL, incident(deaths=30), now=NOW)
    assert (large["severity"], large["colour"]) == ("特别重大", "red")
    assert assess(POWER, city(100, 12, 100, 0), now=NOW)["severity"] == "较大"
    assert assess(COMMS, comms((2, 1)), now=NOW)["severity"] is None
    nothing = assess(SPECIAL, incident(), now=NOW)
    assert [nothing[key] for key in ("level", "label", "severity", "colour")] == [None] * 4


def test_a_finding_names_clause_value_threshold_and_districts_exactly() -> None:
    found = assess(COMMS, comms((3, 2), (100, 50), (7, 0)), now=NOW)["findings"][0]
    assert found["clause"] == "1.6.2(1)"
    assert (found["metric"], found["threshold"], found["unit"]) == ("share_down", 0.5, "share")
    assert (found["value"], found["numerator"], found["denominator"]) == (0.5, 50, 100)
    assert (found["count"], found["count_threshold"]) == (2, 2)
    assert found["districts"] == ["500101", "500102"]
    assert found["values"][0] == {
        "adcode": "500101",
        "value": 2 / 3,
        "numerator": 2,
        "denominator": 3,
    }


def test_findings_list_every_criterion_met_gravest_first() -> None:
    facts = stranded("passenger_ropeway", 100, 48) | {"deaths": 3}
    found = [f["clause"] for f in assess(SPECIAL, facts, now=NOW)["findings"]]
    assert found == [
        "1.5.1(6)",
        "1.5.2(6)",
        "1.5.3(1)",
        "1.5.3(7)",
        "1.5.4(1)",
        "1.5.4(7)",
    ]
    requires = assess(SPECIAL, facts, now=NOW)["findings"][0]["requires"]
    assert {"metric": "people_stranded", "at_least": 100, "value": 100} in requires


def test_shares_are_compared_exactly_where_floats_would_err() -> None:
    # 0.1 + 0.2 style noise: 0.3 of 3 MW is 10 % exactly, 0.15 * 20 = 3 in decimals.
    assert assess(POWER, city(3, 0.3, 100, 0), now=NOW)["level"] == 3
    assert assess(POWER, city(1.1, 0.055, 100, 0), now=NOW)["level"] == 4
    huge = 10**15 - 1
    assert assess(COMMS, comms((huge, huge // 2)), now=NOW)["level"] == 4
    assert assess(COMMS, comms((huge, huge // 2 + 1)), now=NOW)["level"] == 3


def test_no_facilities_at_all_is_no_share_and_no_finding() -> None:
    empty = assess(COMMS, comms((0, 0)), now=NOW)
    assert (empty["level"], empty["findings"]) == (None, [])
    assert empty["bounds"] == {"at_least": None, "at_most": None}
    assert assess(POWER, power(district(0, 0, 0, 0)), now=NOW)["level"] is None


# Unknown facts -------------------------------------------------------------------------------------


def test_unknown_facilities_widen_the_bounds_and_not_the_level() -> None:
    facts = comms((100, 40))
    facts["districts"][0]["facilities_unknown"] = 20
    assessment = assess(COMMS, facts, now=NOW)
    assert assessment["level"] == 4
    assert assessment["bounds"] == {"at_least": 4, "at_most": 3}
    assert assessment["unknown"] == ["districts[500101].facilities_down"]


@pytest.mark.parametrize(
    ("rows", "bounds"),
    [
        ([(None, None)], (None, 3)),
        ([(None, None), (None, None)], (None, 2)),
        ([(None, 5)], (4, 3)),
        ([(100, None)], (None, 3)),
        ([(0, None)], (None, None)),
        ([(None, 0)], (None, None)),
        ([(100, None), (100, 1)], (4, 3)),
        ([(100, 60), (100, None)], (3, 2)),
    ],
)
def test_a_null_number_of_a_listed_district_widens(
    rows: list[tuple[int | None, int | None]], bounds: tuple[int | None, int | None]
) -> None:
    found = assess(COMMS, comms(*rows), now=NOW)["bounds"]
    assert (found["at_least"], found["at_most"]) == bounds


def test_what_nobody_declared_is_listed_and_does_not_widen() -> None:
    assessment = assess(COMMS, {}, now=NOW)
    assert assessment["bounds"] == {"at_least": None, "at_most": None}
    assert assessment["undeclared"][0] == {
        "fact": "national_response",
        "level": 1,
        "clause": "1.6.1(1)",
    }
    assert len(assessment["undeclared"]) == 6
    denied = {"exceeds_city_capacity": False, "municipal_key_service_down": False}
    left = assess(COMMS, denied, now=NOW)["undeclared"]
    assert {entry["fact"] for entry in left} == {"national_response", "district_key_service_down"}


def test_an_absent_city_is_four_unknown_numbers() -> None:
    assert assess(POWER, {}, now=NOW)["bounds"] == {"at_least": None, "at_most": 1}
    assert assess(POWER, power(), now=NOW)["bounds"] == {"at_least": None, "at_most": None}
    partial = assess(POWER, city(30000, 1500, None, None), now=NOW)
    assert partial["bounds"] == {"at_least": 4, "at_most": 1}


def test_an_unknown_district_load_is_graded_in_both_classes() -> None:
    """70 % of customers out is Ⅲ in a district of 150 MW, Ⅳ under it: Ⅳ is certain either way."""
    assessment = assess(POWER, power(district(None, 0, 1000, 700)), now=NOW)
    assert assessment["level"] == 4
    assert assessment["bounds"] == {"at_least": 4, "at_most": 3}
    assert clauses(assessment) == {"1.5.4(3)", "1.5.4(4)"}
    assert all(f["either"] == ["1.5.4(3)", "1.5.4(4)"] for f in assessment["findings"])
    assert assessment["unknown"] == ["districts[500101].load_mw"]


@pytest.mark.parametrize(
    ("shed", "at_least", "at_most"),
    [
        # Shed 80 MW of an unknown load: at 150 MW it would be 53 %, so Ⅲ is out of reach.
        (80, None, 4),
        # 90 MW of exactly 150 MW would be 60 %.
        (90, None, 3),
        # More than 150 MW shed puts the district into the large class; its share stays unknown.
        (160, None, 3),
        (0, None, None),
    ],
)
def test_an_unknown_load_cannot_be_less_than_what_was_shed(
    shed: float, at_least: int | None, at_most: int | None
) -> None:
    found = assess(POWER, power(district(None, shed, 1000, 0)), now=NOW)["bounds"]
    assert (found["at_least"], found["at_most"]) == (at_least, at_most)


def test_a_boiler_of_unknown_size_exploded() -> None:
    assessment = assess(SPECIAL, {"equipment": "boiler", "exploded": True}, now=NOW)
    assert assessment["level"] == 3
    assert assessment["bounds"] == {"at_least": 3, "at_most": 1}
    assert "boiler_mw" in assessment["unknown"]
    only = incident(equipment="boiler", exploded=True, boiler_mw=None)
    assert assess(SPECIAL, only, now=NOW)["bounds"] == {"at_least": 3, "at_most": 1}
    ask = [n for n in assess(SPECIAL, only, now=NOW)["next"] if n["metric"] == "boiler_mw"]
    assert [(n["clause"], n["value"], n["short_by"], n["unknown"]) for n in ask] == [
        ("1.5.1(4)", None, None, ["boiler_mw"])
    ]


def test_unknown_equipment_leaves_its_criteria_possible_and_not_certain() -> None:
    exploded = assess(SPECIAL, incident(equipment=None, exploded=True), now=NOW)
    assert exploded["level"] is None
    assert exploded["bounds"] == {"at_least": None, "at_most": 3}
    assert exploded["unknown"] == ["equipment"]
    dead = assess(SPECIAL, incident(equipment=None, exploded=True, deaths=1), now=NOW)
    assert dead["bounds"] == {"at_least": 4, "at_most": 3}


def test_hours_of_stranding_imply_somebody_stranded_unless_none_is_said() -> None:
    lift = incident(equipment="elevator", people_stranded=None, stranded_hours=2)
    assert assess(SPECIAL, lift, now=NOW)["bounds"] == {"at_least": 4, "at_most": 4}
    cable = incident(equipment="passenger_ropeway", people_stranded=None, stranded_hours=48)
    assert assess(SPECIAL, cable, now=NOW)["bounds"] == {"at_least": 3, "at_most": 1}
    nobody = incident(equipment="elevator", people_stranded=0, stranded_hours=2)
    assert assess(SPECIAL, nobody, now=NOW)["bounds"] == {"at_least": None, "at_most": None}
    unsaid = incident(equipment="elevator", people_stranded=3, stranded_hours=None)
    assert assess(SPECIAL, unsaid, now=NOW)["bounds"] == {"at_least": None, "at_most": 4}


# Out of scope, and what may happen -----------------------------------------------------------------


@pytest.mark.parametrize("site", ["rail_vehicle", "ship", "underground_mine", "airport_dedicated"])
def test_another_sectors_site_is_out_of_the_plans_scope(site: str) -> None:
    assessment = assess(SPECIAL, incident(deaths=30, site=site), now=NOW)
    assert assessment["level"] is None
    assert assessment["findings"] == []
    assert assessment["next"] == []
    assert assessment["out_of_scope"] == {"clause": "1.3", "site": site}
    assert assessment["bounds"] == {"at_least": None, "at_most": None}


@pytest.mark.parametrize(
    ("equipment", "level"), [("crane", None), ("in_plant_vehicle", None), ("elevator", 1)]
)
def test_building_sites_exclude_only_cranes_and_vehicles(equipment: str, level: int | None) -> None:
    facts = incident(deaths=30, site="building_site", equipment=equipment)
    assessment = assess(SPECIAL, facts, now=NOW)
    assert assessment["level"] == level
    assert (assessment["out_of_scope"] is None) == (level is not None)


def test_unknown_equipment_on_a_building_site_may_be_out_of_scope() -> None:
    facts = incident(deaths=30, site="building_site", equipment=None)
    assessment = assess(SPECIAL, facts, now=NOW)
    assert assessment["bounds"] == {"at_least": None, "at_most": 1}
    assert assessment["unknown"] == ["equipment"]


def test_what_may_happen_never_gives_the_lowest_level() -> None:
    assert assess(SPECIAL, incident(deaths=1, possible=True), now=NOW)["level"] is None
    three = assess(SPECIAL, incident(deaths=3, possible=True), now=NOW)
    assert (three["level"], clauses(three), three["possible"]) == (3, {"1.5.3(1)"}, True)


# What would raise the level ------------------------------------------------------------------------


def test_next_counts_missing_districts_and_names_the_facilities_each_needs() -> None:
    facts = comms((100, 60), (100, 45), (10, 4), (1000, 0), (0, 0))
    entry = next(n for n in assess(COMMS, facts, now=NOW)["next"] if n["clause"] == "1.6.2(1)")
    assert (entry["short_by"], entry["short_by_unit"]) == (1, "district")
    assert (entry["count"], entry["count_threshold"]) == (1, 2)
    assert entry["districts"] == ["500103", "500102", "500104"]
    assert entry["needs"] == [
        {"adcode": "500103", "facilities": 1},
        {"adcode": "500102", "facilities": 5},
        {"adcode": "500104", "facilities": 500},
    ]
    assert entry["short_by_amount"] == {"value": 1, "unit": "facility"}


def test_next_breaks_ties_by_code_and_names_at_most_five() -> None:
    facts = comms(*[(100, 0)] * 7)
    facts["districts"].reverse()
    entry = next(n for n in assess(COMMS, facts, now=NOW)["next"] if n["clause"] == "1.6.2(1)")
    assert entry["districts"] == [str(500101 + n) for n in range(5)]
    assert entry["short_by"] == 2


@pytest.mark.parametrize(("total", "down", "needed"), [(101, 50, 1), (7, 0, 4), (1, 0, 1)])
def test_the_facilities_needed_are_exactly_enough(total: int, down: int, needed: int) -> None:
    entry = next(
        n
        for n in assess(COMMS, comms((total, down)), now=NOW)["next"]
        if n["metric"] == "share_down" and n["level"] == 3
    )
    assert entry["needs"] == [{"adcode": "500101", "facilities": needed}]
    assert assess(COMMS, comms((total, down + needed)), now=NOW)["level"] == 3
    assert assess(COMMS, comms((total, down + needed - 1)), now=NOW)["level"] != 3


def test_next_gives_the_share_and_the_amount_that_reaches_it() -> None:
    entry = assess(POWER, city(30000.001, 2000, 1000001, 0), now=NOW)["next"][0]
    assert (entry["level"], entry["clause"], entry["metric"]) == (3, "1.5.3(1)", "load_shed_share")
    assert entry["short_by_amount"] == {"value": 1000.001, "unit": "MW"}
    assert entry["short_by"] == pytest.approx(0.1 - 2000 / 30000.001, abs=1e-15)
    by_customers = assess(POWER, city(30000.001, 2000, 1000001, 0), now=NOW)["next"][1]
    assert by_customers["short_by_amount"] == {"value": 150001, "unit": "customer"}


def test_next_of_a_district_leaves_out_the_class_it_is_not_in() -> None:
    near = assess(POWER, power(district(100, 39, 1000, 0), district(400, 0, 1000, 0, "500102")))
    entries = {(n["clause"], n["metric"]): n for n in near["next"]}
    small = entries["1.5.4(4)", "district_load_shed_share"]
    assert small["needs"] == [{"adcode": "500101", "load_shed_mw": 1}]
    assert small["districts"] == ["500101"]
    large = entries["1.5.3(3)", "district_load_shed_share"]
    assert large["needs"] == [{"adcode": "500102", "load_shed_mw": 240}]


def test_next_is_ordered_from_the_nearest_level_and_skips_other_equipment() -> None:
    entries = assess(SPECIAL, stranded("elevator", 2, 3), now=NOW)["next"]
    assert [n["level"] for n in entries] == sorted((n["level"] for n in entries), reverse=True)
    assert {n["metric"] for n in entries} == {"deaths", "serious_injuries", "direct_loss_yuan"}
    people = assess(SPECIAL, stranded("passenger_ropeway", 99, 60), now=NOW)["next"]
    short = next(n for n in people if n["clause"] == "1.5.2(6)")
    assert (short["metric"], short["value"], short["short_by"]) == ("people_stranded", 99, 1)


def test_next_says_what_else_is_short_and_when_the_clock_will_get_there() -> None:
    facts = incident(
        equipment="passenger_ropeway",
        people_stranded=40,
        stranded_hours=None,
        stranded_since=NOW - timedelta(hours=13),
    )
    entries = assess(SPECIAL, facts, now=NOW)["next"]
    both = next(n for n in entries if n["clause"] == "1.5.2(6)")
    assert (both["metric"], both["value"], both["short_by"]) == ("stranded_hours", 13, 11)
    assert both["reached_at"] == (NOW + timedelta(hours=11)).isoformat()
    assert [(a["metric"], a["short_by"]) for a in both["also"]] == [("people_stranded", 60)]


def test_the_gravest_level_has_no_next() -> None:
    assert assess(SPECIAL, incident(deaths=30), now=NOW)["next"] == []


# Clocks --------------------------------------------------------------------------------------------


def ropeway(**facts: Any) -> Facts:
    return incident(
        **(
            {"equipment": "passenger_ropeway", "people_stranded": 100, "stranded_hours": None}
            | facts
        )
    )


def test_hours_by_the_clock_are_exact_to_the_microsecond() -> None:
    since = NOW - timedelta(hours=24)
    facts = ropeway(stranded_since=since.isoformat())
    assert assess(SPECIAL, facts, now=NOW)["level"] == 2
    assert assess(SPECIAL, facts, now=NOW - timedelta(microseconds=1))["level"] == 3
    ended = ropeway(
        stranded_since=since.isoformat(), stranded_until=(since + timedelta(hours=3)).isoformat()
    )
    assert assess(SPECIAL, ended, now=NOW)["level"] is None


def test_the_clock_is_compared_across_offsets() -> None:
    facts = ropeway(stranded_since="2026-07-01T08:00:00+08:00")
    assert assess(SPECIAL, facts, now=NOW)["findings"][0]["value"] == 12


def test_next_clock_change_walks_the_thresholds_of_the_plan() -> None:
    since = NOW
    facts = ropeway(stranded_since=since)
    expected = [3.5, 12, 24, 48]
    now: datetime | None = NOW
    for hours in expected:
        assert now is not None
        now = next_clock_change(SPECIAL, facts, now)
        assert now == since + timedelta(hours=hours)
    assert now is not None
    assert next_clock_change(SPECIAL, facts, now) is None


def test_the_clock_changes_nothing_once_people_are_down_or_for_too_few() -> None:
    facts = ropeway(stranded_since=NOW, stranded_until=NOW + timedelta(hours=12))
    assert next_clock_change(SPECIAL, facts, NOW + timedelta(hours=4)) == NOW + timedelta(hours=12)
    assert next_clock_change(SPECIAL, facts, NOW + timedelta(hours=12)) is None
    few = ropeway(stranded_since=NOW, people_stranded=99)
    assert next_clock_change(SPECIAL, few, NOW + timedelta(hours=12)) is None
    assert next_clock_change(SPECIAL, incident(deaths=3), NOW) is None
    assert next_clock_change(COMMS, comms((10, 5)), NOW) is None


def test_a_beginning_a_little_ahead_of_the_clock_is_zero_hours() -> None:
    facts = ropeway(stranded_since=NOW + timedelta(minutes=5))
    assert assess(SPECIAL, facts, now=NOW)["level"] is None
    with pytest.raises(InvalidInput, match="five minutes"):
        assess(SPECIAL, ropeway(stranded_since=NOW + timedelta(minutes=5, seconds=1)), now=NOW)


def test_a_time_of_assessment_without_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="offset"):
        assess(COMMS, {}, now=datetime(2026, 1, 1))  # noqa: DTZ001


# Districts and several incidents -------------------------------------------------------------------


def test_a_districts_level_is_what_its_own_facts_give() -> None:
    facts = comms((100, 50), (100, 50), (100, 1), (100, 0), exceeds_city_capacity=True)
    assert district_levels(COMMS, facts) == {
        "500101": 3,
        "500102": 3,
        "500103": 4,
        "500104": None,
    }
    grid = {**city(100, 60, 100, 60), "districts": [district(150, 90, 10, 0)]}
    assert district_levels(POWER, grid) == {"500101": 3}
    assert district_levels(SPECIAL, incident(deaths=30)) == {}


def test_the_worst_of_several_incidents_keeps_every_finding_and_its_extra_keys() -> None:
    given = []
    for number, facts in enumerate([incident(deaths=1), incident(deaths=3), incident()]):
        one = assess(SPECIAL, facts, now=NOW)
        for finding in one["findings"]:
            finding["incident_id"] = number
        given.append(one)
    worst = worst_of(given)
    assert worst["level"] == 3
    assert [(f["incident_id"], f["clause"]) for f in worst["findings"]] == [
        (1, "1.5.3(1)"),
        (0, "1.5.4(1)"),
        (1, "1.5.4(1)"),
    ]
    assert worst["facts"]["deaths"] == 3
    assert len(given[1]["findings"]) == 2


def test_the_worst_of_several_has_bounds_that_cover_all() -> None:
    unsure = assess(SPECIAL, incident(deaths=None), now=NOW)
    certain = assess(SPECIAL, incident(deaths=3), now=NOW)
    assert worst_of([certain, unsure])["bounds"] == {"at_least": 3, "at_most": 1}
    with pytest.raises(ValueError, match="different plans"):
        worst_of([certain, assess(COMMS, {}, now=NOW)])
    with pytest.raises(ValueError, match="no assessment"):
        worst_of([])


def test_districts_certain_only_case_by_case_share_one_finding_per_criterion() -> None:
    rows = [district(None, 0, 10, 7, "500102"), district(None, 60, 10, 7, "500101")]
    found = assess(POWER, power(*rows), now=NOW)["findings"]
    assert [(f["clause"], f["metric"], f["districts"]) for f in found] == [
        ("1.5.4(3)", "district_customers_out_share", ["500101", "500102"]),
        ("1.5.4(4)", "district_load_shed_share", ["500101"]),
        ("1.5.4(4)", "district_customers_out_share", ["500101", "500102"]),
    ]
