"""What an assessment says: findings, bounds of the unknown, scope, districts, several incidents."""

from __future__ import annotations

import pytest

from geo.grade import assess, district_levels, worst_of
from tests.graded_facts import (
    COMMS,
    NOW,
    POWER,
    SPECIAL,
    city,
    clauses,
    comms,
    district,
    incident,
    power,
    stranded,
)


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


def test_the_worst_of_several_names_the_unknown_facts_of_whichever_widen_its_bounds() -> None:
    certain = assess(SPECIAL, incident(deaths=3), now=NOW)
    unsure = assess(SPECIAL, incident(deaths=None), now=NOW)
    small = assess(SPECIAL, incident(deaths=0, people_stranded=None), now=NOW)
    assert certain["unknown"] == []
    assert worst_of([certain, unsure])["unknown"] == unsure["unknown"] == ["deaths"]
    assert worst_of([certain])["unknown"] == []
    # what could only lift another incident to a level that is there already decides nothing
    assert small["bounds"]["at_most"] in (None, 3, 4)
    assert worst_of([certain, small])["unknown"] == []


def test_districts_certain_only_case_by_case_share_one_finding_per_criterion() -> None:
    rows = [district(None, 0, 10, 7, "500102"), district(None, 60, 10, 7, "500101")]
    found = assess(POWER, power(*rows), now=NOW)["findings"]
    assert [(f["clause"], f["metric"], f["districts"]) for f in found] == [
        ("1.5.4(3)", "district_customers_out_share", ["500101", "500102"]),
        ("1.5.4(4)", "district_load_shed_share", ["500101"]),
        ("1.5.4(4)", "district_customers_out_share", ["500101", "500102"]),
    ]
