"""The places where the plans' grading text is easy to misread, each as a test or a stated reason.

`TESTS` and `PROCEDURAL` are keyed by plan, clause and trap as in the reference list beside the
checkout; with the list at hand, every row must be in one of them.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from data.rulepacks import load_packs
from geo.errors import InvalidInput
from geo.grade import assess

PACKS = load_packs()
COMMS = PACKS.current("communications-2024")
POWER = PACKS.current("power-outage-2021")
SPECIAL = PACKS.current("special-equipment-2023")
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
TRAPS = Path(__file__).resolve().parents[3] / "shared" / "reference" / "grading_traps.csv"


def comms(*shares: tuple[int, int], **facts: Any) -> int | None:
    rows = [
        {"adcode": str(500101 + n), "facilities_down": down, "facilities_total": total}
        for n, (down, total) in enumerate(shares)
    ]
    level: int | None = assess(COMMS, {"districts": rows, **facts}, now=NOW)["level"]
    return level


def grid(load: float, shed: float, customers: int, out: int) -> dict[str, Any]:
    return {
        "load_mw": load,
        "load_shed_mw": shed,
        "customers": customers,
        "customers_out": out,
    }


def city(*numbers: Any) -> int | None:
    level: int | None = assess(POWER, {"city": grid(*numbers)}, now=NOW)["level"]
    return level


def districts(*rows: tuple[float, float, int, int]) -> int | None:
    listed = [{"adcode": str(500101 + n), **grid(*r)} for n, r in enumerate(rows)]
    level: int | None = assess(POWER, {"districts": listed}, now=NOW)["level"]
    return level


def special(**facts: Any) -> int | None:
    level: int | None = assess(SPECIAL, facts, now=NOW)["level"]
    return level


def test_exactly_half_down_is_large_scale() -> None:
    assert comms((50, 100)) == 3
    assert comms((499_999, 1_000_000)) == 4  # 50.0 % when rounded


def test_partial_has_no_floor_in_the_plan() -> None:
    assert comms((1, 10_000)) == 4
    assert comms((1, 10_000), (1, 10_000)) == 3


def test_one_large_and_many_partial_districts_are_level_three() -> None:
    assert comms((6, 10), *[(4, 10)] * 30) == 3
    assert comms((6, 10), (6, 10)) == 2
    # Pooled, 60 of 120 would be half; per district neither is.
    assert comms((59, 119), (1, 1)) == 3


def test_the_denominator_is_public_facilities_and_the_unknown_show_as_bounds() -> None:
    assert COMMS.facility_kinds == ("base_station", "exchange")
    row = {"adcode": "500101", "facilities_total": 10, "facilities_down": 1}
    silent = assess(COMMS, {"districts": [{**row, "facilities_unknown": 9}]}, now=NOW)
    assert (silent["level"], silent["bounds"]) == (4, {"at_least": 4, "at_most": 3})


def test_functional_zones_are_units_of_the_communications_plan_each_counted_once() -> None:
    assert COMMS.unit_kinds == ("district", "functional_zone")
    rows = [
        {"adcode": "500110", "facilities_total": 4, "facilities_down": 0},
        {"adcode": "Z-WSJK", "facilities_total": 4, "facilities_down": 4},
    ]
    assert assess(COMMS, {"districts": rows}, now=NOW)["level"] == 3


def test_national_levels_shift_by_one() -> None:
    found = {given: comms(national_response=given) for given in ("I", "II", "III", "IV", None)}
    assert found == {"I": 1, "II": 1, "III": 2, "IV": 3, None: None}


def test_key_services_need_no_percentage() -> None:
    assert comms(municipal_key_service_down=True) == 2
    assert comms(district_key_service_down=True) == 3


def test_exceeded_capacity_is_a_judgement_taken_as_given() -> None:
    assert comms(exceeds_city_capacity=True) == 1
    fact = COMMS.fact("", "exceeds_city_capacity")
    assert fact is not None
    assert fact.declared
    assert comms((100, 100), (100, 100)) == 2


def test_power_limbs_are_alternatives_and_the_highest_counts() -> None:
    assert city(1000, 50, 1000, 600) == 1
    assert city(1000, 500, 1000, 100) == 1


def test_power_intervals_go_up_at_the_boundary() -> None:
    by_load = [city(1000, shed, 1000, 0) for shed in (50, 100, 200, 500)]
    by_customers = [city(1000, 0, 1000, out) for out in (100, 150, 300, 600)]
    assert by_load == by_customers == [4, 3, 2, 1]


def test_the_150_mw_class_covers_load_and_customers_and_includes_150() -> None:
    assert districts((150.0, 90, 1000, 0)) == 3
    assert districts((150.0, 0, 1000, 700)) == 3
    assert districts((149.999, 149.999, 1000, 1000)) == 4


def test_a_small_district_is_level_four_even_when_all_dark_unless_the_main_grid_is_hit() -> None:
    assert districts((149, 149, 1000, 1000)) == 4
    dark = {"adcode": "500229", **grid(149, 149, 1000, 1000)}
    both = {"city": grid(1000, 200, 1000, 0), "districts": [dark]}
    assert assess(POWER, both, now=NOW)["level"] == 2


def test_upper_bounds_of_a_lower_grade_do_not_cap() -> None:
    assert districts((200, 90, 1000, 750)) == 3  # 45 % of load, 75 % of customers


def test_one_load_figure_sets_both_the_class_and_the_share() -> None:
    # 112.2 MW shed of a county of 187 MW at peak is 60 % of a large district; of 149 MW, a small one.
    assert districts((187, 112.2, 1000, 0)) == 3
    assert districts((149, 112.2, 1000, 0)) == 4


def test_district_figures_never_stand_in_for_the_main_grids() -> None:
    facts = {
        "city": grid(30000, 0, 10_000, 0),
        "districts": [{"adcode": str(500101 + n), **grid(700, 250, 100, 0)} for n in range(37)],
    }
    assert assess(POWER, facts, now=NOW)["level"] is None


def test_below_every_threshold_there_is_no_grade() -> None:
    assert city(1000, 49.999, 1000, 99) is None


def test_functional_zones_are_no_districts_of_the_power_plan() -> None:
    assert POWER.unit_kinds == ("district",)
    zone = {"adcode": "Z-CQGX", **grid(200, 200, 10, 10)}
    with pytest.raises(InvalidInput, match="functional zone"):
        assess(POWER, {"districts": [zone]}, now=NOW)


def test_many_districts_change_the_lead_and_not_the_grade() -> None:
    assert districts(*[(150, 90, 10, 0)] * 20) == districts((150, 90, 10, 0)) == 3


def test_termination_needs_all_four_and_its_shares_are_inclusive() -> None:
    entries = POWER.procedures["termination"]
    assert {entry["clause"] for entry in entries} == {"4.3(1)", "4.3(2)", "4.3(3)", "4.3(4)"}
    bounds = {entry["metric"]: entry["threshold"] for entry in entries if "metric" in entry}
    assert bounds == {"load_restored_share": 0.8, "key_area_load_restored_share": 0.9}


def test_the_misprinted_title_of_level_three_is_its_severity() -> None:
    assert POWER.scale[3].severity == "较大"


def test_at_or_above_is_inclusive_and_below_is_exclusive() -> None:
    assert special(deaths=3) == 3
    assert special(deaths=10) == 2
    assert special(direct_loss_yuan=100_000_000) == 1
    assert special(direct_loss_yuan=10_000) == 4


def test_nobody_hurt_and_little_lost_is_no_grade() -> None:
    assert special(deaths=0, serious_injuries=0, direct_loss_yuan=9_999) is None
    assert special(deaths=1) == 4


def test_a_hundred_people_and_the_hours_are_both_needed() -> None:
    def high(people: int, hours: float) -> int | None:
        return special(
            equipment="large_amusement_ride", people_stranded=people, stranded_hours=hours
        )

    assert (high(99, 60), high(100, 47.9), high(100, 48)) == (3, 2, 1)


def test_twelve_hours_on_a_ropeway_need_no_hundred_people() -> None:
    def high(people: int, hours: float) -> int | None:
        return special(equipment="passenger_ropeway", people_stranded=people, stranded_hours=hours)

    assert (high(1, 12), high(100, 12), high(100, 24), high(100, 48)) == (3, 3, 2, 1)


def test_ropeway_and_ride_have_different_floors() -> None:
    for hours, ropeway, ride in ((1, None, 4), (3.5, 4, 4), (12, 3, 3)):
        facts = {"people_stranded": 1, "stranded_hours": hours}
        assert special(equipment="passenger_ropeway", **facts) == ropeway
        assert special(equipment="large_amusement_ride", **facts) == ride


def test_a_lift_is_never_above_level_four_by_time() -> None:
    facts = {"equipment": "elevator", "people_stranded": 100, "stranded_hours": 100}
    assert special(**facts) == 4
    assert special(**{**facts, "people_stranded": 1, "stranded_hours": 2}) == 4


def test_a_boiler_explosion_depends_on_its_size_and_unknown_is_at_least_three() -> None:
    assert special(equipment="boiler", exploded=True, boiler_mw=600) == 1
    assert special(equipment="boiler", exploded=True, boiler_mw=1, deaths=0) == 3
    assert special(equipment="pressure_pipeline", exploded=True) == 3
    unknown = assess(SPECIAL, {"equipment": "boiler", "exploded": True}, now=NOW)
    assert (unknown["level"], "boiler_mw" in unknown["unknown"]) == (3, True)


def test_a_boiler_outage_needs_size_safety_fault_and_240_hours() -> None:
    facts = {
        "equipment": "boiler",
        "boiler_mw": 600,
        "safety_fault": True,
        "shutdown_hours": 240,
    }
    assert special(**facts) == 2
    for change in (
        {"boiler_mw": 599},
        {"safety_fault": False},
        {"safety_fault": None},
        {"shutdown_hours": 239},
    ):
        assert special(**{**facts, **change}) is None


def test_a_gas_cylinder_is_a_pressure_vessel() -> None:
    assert special(equipment="gas_cylinder", exploded=True) == 3
    assert special(equipment="gas_cylinder", toxic_leak=True, people_relocated=500) == 4


def test_a_leak_must_be_toxic_and_from_a_vessel_or_pipeline() -> None:
    for people, level in ((499, None), (500, 4), (10_000, 3), (50_000, 2), (150_000, 1)):
        leak = {"toxic_leak": True, "people_relocated": people}
        assert special(equipment="pressure_pipeline", **leak) == level
        assert special(equipment="boiler", **leak) is None
        assert special(equipment="pressure_vessel", people_relocated=people) is None


def test_a_crane_overturned_is_graver_than_a_broken_member() -> None:
    assert special(equipment="crane", overturned=True) == 3
    assert special(equipment="crane", structure_broken=True) == 4
    assert special(equipment="crane", hoist_fell=True) == 4


def test_other_sectors_sites_are_out_of_scope() -> None:
    for site in ("rail_vehicle", "ship", "underground_mine", "airport_dedicated"):
        assert special(site=site, deaths=30) is None
    assert special(site="building_site", equipment="crane", deaths=30) is None
    assert special(site="building_site", equipment="in_plant_vehicle", deaths=30) is None
    assert special(site="building_site", equipment="elevator", deaths=30) == 1


def test_what_may_happen_triggers_the_three_graver_levels_only() -> None:
    assert [special(possible=True, deaths=n) for n in (1, 3, 10, 30)] == [None, 3, 2, 1]
    assert special(possible=False, deaths=1) == 4


TESTS = {
    ("comms", "1.6.4", "exactly 50%"): test_exactly_half_down_is_large_scale,
    ("comms", "1.6.4", "局部 has no floor"): test_partial_has_no_floor_in_the_plan,
    (
        "comms",
        "1.6.2(1)/1.6.3(1)",
        "mixed districts",
    ): test_one_large_and_many_partial_districts_are_level_three,
    (
        "comms",
        "1.6.4",
        "denominator",
    ): test_the_denominator_is_public_facilities_and_the_unknown_show_as_bounds,
    (
        "comms",
        "1.5",
        "functional zones are 区县",
    ): test_functional_zones_are_units_of_the_communications_plan_each_counted_once,
    (
        "comms",
        "1.6.1(1),1.6.2(2),1.6.3(2)",
        "level shift",
    ): test_national_levels_shift_by_one,
    ("comms", "1.6.2(3)/1.6.3(3)", "important users"): test_key_services_need_no_percentage,
    ("comms", "1.6.1(2)", "capability"): test_exceeded_capacity_is_a_judgement_taken_as_given,
    (
        "power",
        "1.5.1-1.5.4",
        "items (1)(2)..",
    ): test_power_limbs_are_alternatives_and_the_highest_counts,
    ("power", "1.5 last line", "intervals"): test_power_intervals_go_up_at_the_boundary,
    (
        "power",
        "1.5.3(3)",
        "150 MW",
    ): test_the_150_mw_class_covers_load_and_customers_and_includes_150,
    (
        "power",
        "1.5.4(4)",
        "<150 MW district",
    ): test_a_small_district_is_level_four_even_when_all_dark_unless_the_main_grid_is_hit,
    (
        "power",
        "1.5.4(3)",
        "45% load + 75% users (>=150 MW)",
    ): test_upper_bounds_of_a_lower_grade_do_not_cap,
    (
        "power",
        "1.5.3(3)",
        "which load",
    ): test_one_load_figure_sets_both_the_class_and_the_share,
    (
        "power",
        "1.5",
        "main grid vs district",
    ): test_district_figures_never_stand_in_for_the_main_grids,
    ("power", "1.5", "below thresholds"): test_below_every_threshold_there_is_no_grade,
    (
        "power",
        "1.5.3(3)",
        "区县 definition",
    ): test_functional_zones_are_no_districts_of_the_power_plan,
    ("power", "2.2", "many districts"): test_many_districts_change_the_lead_and_not_the_grade,
    ("power", "4.3", "termination"): test_termination_needs_all_four_and_its_shares_are_inclusive,
    ("power", "1.5.3 title", "typo"): test_the_misprinted_title_of_level_three_is_its_severity,
    ("special", "1.5", "以上/以下"): test_at_or_above_is_inclusive_and_below_is_exclusive,
    ("special", "1.5.4", "3人以下死亡"): test_nobody_hurt_and_little_lost_is_no_grade,
    (
        "special",
        "1.5.1/1.5.2",
        "100人 AND hours",
    ): test_a_hundred_people_and_the_hours_are_both_needed,
    (
        "special",
        "1.5.3",
        "cableway >=12 h",
    ): test_twelve_hours_on_a_ropeway_need_no_hundred_people,
    ("special", "1.5.4", "cableway vs ride floor"): test_ropeway_and_ride_have_different_floors,
    ("special", "1.5.4", "elevator"): test_a_lift_is_never_above_level_four_by_time,
    (
        "special",
        "1.5.1-1.5.3",
        "boiler",
    ): test_a_boiler_explosion_depends_on_its_size_and_unknown_is_at_least_three,
    (
        "special",
        "1.5.2",
        "boiler outage",
    ): test_a_boiler_outage_needs_size_safety_fault_and_240_hours,
    ("special", "9", "气瓶"): test_a_gas_cylinder_is_a_pressure_vessel,
    (
        "special",
        "1.5.x",
        "toxic leak",
    ): test_a_leak_must_be_toxic_and_from_a_vessel_or_pipeline,
    ("special", "1.5.3/1.5.4", "crane"): test_a_crane_overturned_is_graver_than_a_broken_member,
    ("special", "1.3", "scope"): test_other_sectors_sites_are_out_of_scope,
    (
        "special",
        "4.5",
        "possible",
    ): test_what_may_happen_triggers_the_three_graver_levels_only,
}
PROCEDURAL = {
    ("comms", "1.3(1)", "two gradings"): "another regulation's grades, in no pack",
    ("comms", "4.1", "authority"): "who confirms a response, not what grades it",
    ("comms", "4.3.6(2)", "release"): "who releases information",
    ("comms", "3.2.3", "warning"): "who is told of a warning",
    ("comms", "4.3.3", "clocks"): "reporting deadlines",
    ("power", "1.5", "peak vs current"): "the power event keeps its worst moment; facts are graded",
    ("power", "1.5", "供电用户"): "what the inventory counts as a customer",
    ("power", "1.3", "planned shedding"): "planned outages are left out where facts are aggregated",
    ("power", "4.1", "response"): "which response a grade starts, and who leads it",
    ("special", "4.1.3", "30 days"): "facts change and are graded again; incidents keep versions",
    ("special", "4.6", "authority"): "who approves a response",
}


def test_every_known_trap_is_a_test_or_has_a_reason_not_to_be() -> None:
    if not TRAPS.exists():
        pytest.skip("the reference list is not beside this checkout")
    with TRAPS.open(encoding="utf-8", newline="") as file:
        rows = {(r["plan"], r["clause"], r["trap"].strip('"')) for r in csv.DictReader(file)}
    assert len(rows) == 44
    assert rows == set(TESTS) | set(PROCEDURAL)
    assert not set(TESTS) & set(PROCEDURAL)
