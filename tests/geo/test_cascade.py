"""What falls after its battery, and what it feeds after it."""

from __future__ import annotations

import pytest

from geo.cascade import Fed, battery_minutes, fall_minutes


@pytest.mark.parametrize(
    ("battery_hours", "minute"),
    [(None, 0), (0.0, 0), (2.0, 120), (2.1, 126), (0.01, 1), (4.5, 270), (1 / 60, 1)],
)
def test_a_battery_lasts_to_the_minute(battery_hours: float | None, minute: int) -> None:
    assert battery_minutes(battery_hours) == minute


def test_what_hangs_on_a_lost_feeder_falls_and_nothing_else() -> None:
    fed = [Fed("a", "S1", 2.0), Fed("b", "S1", None), Fed("c", "S2", 1.0)]
    assert fall_minutes(["S1"], fed) == {"a": 120, "b": 0}


def test_chains_add_up_and_rings_end() -> None:
    fed = [Fed("S2", "S1", 1.0), Fed("a", "S2", 2.0), Fed("S1", "S2", 0.5), Fed("S3", "a", None)]
    assert fall_minutes(["S1"], fed) == {"S2": 60, "a": 180, "S3": 180}


def test_what_is_kept_supplied_neither_falls_nor_passes_it_on() -> None:
    fed = [Fed("S2", "S1", 1.0), Fed("a", "S2", 2.0)]
    assert fall_minutes(["S1"], fed, lasting=["S2"]) == {}


def test_the_earlier_of_two_ways_counts() -> None:
    fed = [Fed("x", "S1", 5.0), Fed("y", "S1", 1.0), Fed("x", "y", 1.0)]
    assert fall_minutes(["S1"], fed)["x"] == 120
