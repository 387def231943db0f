"""Moments of a series, and the shares that are read along it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from geo.grade import assess, level_bounds
from geo.history import CAUSES, Share, add_causes, age_s, moments, restored
from tests.situations import rule_packs

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("hours", "every", "expected"),
    [(3, 1, [0, 1, 2, 3]), (2.5, 1, [0, 1, 2, 2.5]), (0, 1, [0]), (1, 5, [0, 1])],
)
def test_the_moments_end_with_the_end(hours: float, every: float, expected: list[float]) -> None:
    found = moments(NOON, NOON + hours * HOUR, every * HOUR)
    assert [(moment - NOON) / HOUR for moment in found] == expected


def test_of_nothing_there_is_no_share_and_nothing_restored() -> None:
    assert Share(0, 0).value is None
    assert restored(0, 0).value is None
    assert restored(3, 12) == Share(9, 12)
    assert restored(5, 4).value == 0, "the inventory has grown since"


@pytest.mark.parametrize(
    ("causes", "total", "unknown"),
    [({}, 4, 4), ({"power": 3, "other": 1}, 4, 0), ({"power": 3}, 2, 0), ({"unknown": 9}, 5, 5)],
)
def test_causes_sum_to_the_total(causes: dict[str, int], total: int, unknown: int) -> None:
    sums = dict.fromkeys(CAUSES, 0)
    add_causes(sums, causes, total)
    add_causes(sums, causes, total)
    assert sum(sums.values()) == 2 * total
    assert sums["unknown"] == 2 * unknown


def test_an_age_is_of_the_newest_and_never_negative() -> None:
    assert age_s(NOON, []) is None
    assert age_s(NOON, [NOON - 2 * HOUR, NOON - HOUR]) == 3600
    assert age_s(NOON, [NOON + timedelta(minutes=4)]) == 0


@pytest.mark.parametrize("down", [0, 1, 49, 50, 100])
@pytest.mark.parametrize("unknown", [0, 30])
def test_level_bounds_are_those_of_the_assessment(down: int, unknown: int) -> None:
    pack = rule_packs()["communications-2024"]
    districts = [
        {"adcode": code, "facilities_total": 100, "facilities_down": down}
        | {"facilities_unknown": min(unknown, 100 - down)}
        for code in ("500101", "500102", "500103")
    ]
    found = assess(pack, {"districts": districts}, now=NOON)
    bounds = (found["bounds"]["at_least"], found["bounds"]["at_most"])
    assert level_bounds(pack, {"districts": districts}, NOON) == bounds
    assert bounds[0] == found["level"]
