"""What falls when its supply is lost: each facility after its battery, and what it feeds after it.

Times are whole minutes from the loss. A facility without a battery, or of which none is known,
falls at once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush


@dataclass(frozen=True, slots=True)
class Fed:
    """A facility, the one that feeds it, and how long it lasts without (None: unknown)."""

    facility_id: str
    feeds_from: str
    battery_hours: float | None


def battery_minutes(battery_hours: float | None) -> int:
    """The first whole minute at which the battery is empty."""
    # 2.1 h are 126 min, and not the 127 that 126.00000000000001 would be
    return 0 if battery_hours is None else math.ceil(round(battery_hours * 60, 6))


def fall_minutes(
    lost: Collection[str], fed: Iterable[Fed], *, lasting: Collection[str] = ()
) -> dict[str, int]:
    """facility_id → the minute it falls, of everything that hangs on what is `lost` at minute 0.

    `lasting` are kept supplied, whatever feeds them. A ring of feeders ends where it began.
    """
    hanging: dict[str, list[Fed]] = defaultdict(list)
    for one in fed:
        hanging[one.feeds_from].append(one)
    kept = set(lasting)
    falls: dict[str, int] = {}
    gone = dict.fromkeys(lost, 0)
    queue = [(0, facility_id) for facility_id in gone]
    heapify(queue)
    while queue:
        minute, feeder = heappop(queue)
        if minute > gone[feeder]:
            continue
        for one in hanging[feeder]:
            falls_at = minute + battery_minutes(one.battery_hours)
            name = one.facility_id
            if name in kept or (name in gone and gone[name] <= falls_at):
                continue
            gone[name] = falls[name] = falls_at
            heappush(queue, (falls_at, name))
    return falls
