"""Counts of facilities per kind, operator, district and unit, and what a plan grades of them.

docs/meanings.md, "Down" and "Returns": where an operator's return is the source it stands in place
of his sites, never both; what is not down of a silent operator is unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from geo.split import split_by_weights

#: What is counted, integers: facilities in all, unknown, degraded, down.
COUNTS = ("total", "unknown", "degraded", "down")


class Place(NamedTuple):
    """What a count is of; `adcode` and `unit` are None outside the city."""

    kind: str
    operator: str
    adcode: str | None
    unit: str | None


class Count(NamedTuple):
    """Numbers of facilities, as `COUNTS`."""

    total: int
    unknown: int
    degraded: int
    down: int


def by_return(
    one: Mapping[str, Any],
    sites: Sequence[tuple[str | None, str | None, int]],
    hosts: Mapping[str, Sequence[str]],
) -> list[tuple[Place, Count]]:
    """An operator's kind by its return, in place of its `sites` (adcode, unit, total).

    The return's rows give `code`, total, down, unknown. What it does not list, but the inventory
    has, is unknown: "no change" must be sent. A zone's totals are split over its districts (`hosts`
    by code) by the inventory, largest remainders.
    """
    kind, operator = one["kind"], one["operator"]
    listed = {row["code"] for row in one["rows"]}
    found: list[tuple[Place, Count]] = []
    for row in one["rows"]:
        for adcode, count in _of_row(row, sites, hosts.get(row["code"], [])):
            found.append((Place(kind, operator, adcode, row["code"]), count))
    for adcode, unit, total in sites:
        if unit not in listed and adcode not in listed:
            found.append((Place(kind, operator, adcode, unit), Count(total, total, 0, 0)))
    return found


def _of_row(
    row: Mapping[str, Any],
    sites: Sequence[tuple[str | None, str | None, int]],
    hosts: Sequence[str],
) -> list[tuple[str | None, Count]]:
    figures = Count(int(row["total"]), int(row.get("unknown") or 0), 0, int(row["down"]))
    if len(hosts) <= 1:
        return [(hosts[0] if hosts else None, figures)]
    # Each part within what is left of its district's total, so that no district has more down and
    # unknown than it has facilities.
    parts = split_within(figures, zone_weights(sites, hosts))
    return [(host, Count(*(int(parts[name][host]) for name in COUNTS))) for host in hosts]


def zone_weights(
    sites: Iterable[tuple[str | None, str | None, int]], hosts: Sequence[str]
) -> dict[str | None, int | float | Fraction]:
    """How a zone's totals are divided over its districts: by the operator's sites there."""
    weights: dict[str | None, int | float | Fraction] = defaultdict(int, dict.fromkeys(hosts, 0))
    for adcode, _, total in sites:
        if adcode in weights:
            weights[adcode] += int(total)
    if not any(weights.values()):
        weights.update(dict.fromkeys(hosts, 1))
    return weights


def split_within(
    figures: Count, weights: Mapping[str | None, int | float | Fraction]
) -> dict[str, dict[str | None, int]]:
    """Each of COUNTS divided by the weights, the parts of a place never above its total."""
    parts = {"total": {h: int(n) for h, n in split_by_weights(figures.total, weights).items()}}
    room = dict(parts["total"])
    for name in ("down", "unknown", "degraded"):
        split = split_by_weights(getattr(figures, name), weights, at_most=room)
        parts[name] = {h: int(n) for h, n in split.items()}
        room = {h: room[h] - parts[name][h] for h in room}
    return parts


def unit_facts(
    counts: Iterable[tuple[Place, Count]], kinds: Collection[str], silent: Collection[str]
) -> list[dict[str, Any]]:
    """Facts per unit, by code: totals over all operators of the graded kinds; what is not down of
    silent operators is unknown."""
    sums: dict[str, list[int]] = {}
    for place, count in counts:
        if place.unit is None or place.kind not in kinds:
            continue
        own = sums.setdefault(place.unit, [0, 0, 0])
        own[0] += count.total
        own[1] += count.down
        own[2] += unheard(place, count, silent)
    return [
        {
            "adcode": unit,
            "facilities_total": total,
            "facilities_down": down,
            "facilities_unknown": unknown,
        }
        for unit, (total, down, unknown) in sorted(sums.items())
    ]


def unheard(place: Place, count: Count, silent: Collection[str]) -> int:
    """How many are unknown: all that is not down where the operator is silent."""
    return count.total - count.down if place.operator in silent else count.unknown
