"""Every criterion of the three plans at its bound, just below and just above it.

`BY_HAND` is typed from the plans' texts, not from the packs: a wrong number in a TOML turns it red.
"""

from __future__ import annotations

import pytest

from geo.grade import assess
from tests.graded_facts import (
    COMMS,
    NOW,
    POWER,
    SPECIAL,
    Facts,
    city,
    clauses,
    comms,
    district,
    incident,
    leak,
    outage,
    power,
    stranded,
)

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
