"""Who lives in a region, and how many of them are without power, as far as it is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from geo.coverage import AreaShare
from geo.region import DistrictPart

BASIS = "share of each district's area; affected: times the district's power area share"


def people_inside(
    parts: Iterable[DistrictPart],
    shares: Mapping[str, Mapping[str, AreaShare]],
    kinds: Sequence[str],
) -> dict[str, Any]:
    """Residents by the share of each district's area, and those of them without power.

    Null where something of a district is not known; `unknown` has the codes of these districts by
    what is missing, and `basis` says it. `shares` has the area shares by kind and district, `kinds`
    those that supply power.
    """
    inside, affected = 0.0, 0.0
    unknown: dict[str, list[str]] = {"population": [], "power_area_share": []}
    for part in parts:
        power = [shares[k][part.adcode].any for k in kinds if part.adcode in shares.get(k, {})]
        if part.population is None:
            unknown["population"].append(part.adcode)
        if not power:
            unknown["power_area_share"].append(part.adcode)
        people = (part.population or 0) * part.share_of_district
        inside += people
        affected += people * max(power, default=0)
    missing = [f"{what.replace('_', ' ')} of {', '.join(c)}" for what, c in unknown.items() if c]
    return {
        "inside": None if unknown["population"] else int(np.floor(inside + 0.5)),
        "affected": None if missing else int(np.floor(affected + 0.5)),
        "basis": BASIS + (f"; not known: {'; '.join(missing)}" if missing else ""),
        "unknown": unknown,
    }
