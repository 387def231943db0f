"""What would raise a level, how far off it is, and when the clock alone gets there."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from geo.errors import InvalidInput
from geo.grade import assess, next_clock_change
from tests.graded_facts import (
    COMMS,
    NOW,
    POWER,
    SPECIAL,
    Facts,
    city,
    comms,
    district,
    incident,
    power,
    stranded,
)

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
    assert (len(entry["needs"]), entry["needs_total"]) == (5, 7)


def test_of_districts_that_need_as_many_the_one_nearer_by_share_comes_first() -> None:
    facts = comms((4, 1), (3, 1), (100, 49))  # one more each: 2 of 4, 2 of 3, 50 of 100
    entry = next(n for n in assess(COMMS, facts, now=NOW)["next"] if n["clause"] == "1.6.2(1)")
    assert entry["districts"] == ["500103", "500102", "500101"]
    assert [need["facilities"] for need in entry["needs"]] == [1, 1, 1]


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
