"""The table of the demonstration's levels, and what a replay showed, in one form to compare."""

from __future__ import annotations

from collections.abc import Mapping

from data.demo_scenario import COMMUNICATIONS, POWER, SPECIAL_EQUIPMENT, level_changes

PLANS = (COMMUNICATIONS, POWER, SPECIAL_EQUIPMENT)


def changes(
    minutes: list[tuple[int, Mapping[str, int | None]]],
) -> list[tuple[int, str, int | None]]:
    """Each change of a plan's level, from none."""
    shown: dict[str, int | None] = dict.fromkeys(PLANS)
    found = []
    for minute, levels in minutes:
        for plan in PLANS:
            if levels[plan] != shown[plan]:
                found.append((minute, plan, levels[plan]))
                shown[plan] = levels[plan]
    return found


def expected() -> list[tuple[int, str, int | None]]:
    return sorted(level_changes(), key=lambda row: (row[0], PLANS.index(row[1])))
