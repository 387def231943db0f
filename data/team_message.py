"""One CoT event of a friendly unit as a team's position, or what is wrong with it.

Friendly units on the ground (`a-f-G`), in the air (`a-f-A`) and on the water (`a-f-S`) are teams: a
fire engine, a helicopter, a boat. Every other type is rejected with a reason, our own markers too.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from data.cot import Element
from data.times import parse_time
from geo.errors import Fault

ID_CHARACTERS_MAX = 128
#: CoT's 9999999.0 stands for unknown; nothing a team measures comes near.
UNKNOWN_FROM = 9_999_999.0

_TEAM = re.compile(r"a-f-[GAS](-[A-Za-z0-9.]{1,20}){0,10}")
_HOW = re.compile(r"[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8}){0,6}")
_NUMBER = re.compile(r"[+-]?\d{1,20}(\.\d{0,30})?([eE][+-]?\d{1,3})?")


@dataclass(frozen=True)
class Position:
    """One message of a team: WGS-84 degrees, metres, m/s, degrees from north."""

    row: int
    uid: str
    callsign: str
    cot_type: str
    how: str
    group_name: str | None
    group_role: str | None
    observed_at: datetime
    stale_at: datetime
    lon: float
    lat: float
    accuracy_m: float | None
    height_m: float | None
    speed_mps: float | None
    course_deg: float | None
    battery_percent: int | None
    sha256: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class _Reading:
    """The faults of one event, collected."""

    def __init__(self, event: Element, row: int) -> None:
        self.event, self.row = event, row
        self.faults: list[Fault] = []

    def fault(self, name: str, reason: str) -> None:
        self.faults.append(Fault(reason, self.row, name))

    def identifier(self, name: str) -> str:
        value = self.event.attributes.get(name, "")
        if not value.strip() or len(value) > ID_CHARACTERS_MAX or not value.isprintable():
            self.fault(name, f"must be a printable text of 1 to {ID_CHARACTERS_MAX} characters")
        return value

    def code(self, name: str, pattern: re.Pattern[str], reason: str) -> str:
        value = self.event.attributes.get(name, "")
        if len(value) > ID_CHARACTERS_MAX or not pattern.fullmatch(value):
            self.fault(name, reason)
        return value

    def time(self, name: str) -> datetime | None:
        try:
            return parse_time(self.event.attributes.get(name))
        except ValueError as error:
            self.fault(name, str(error))
            return None

    def degrees(self, name: str, most: float) -> float | None:
        value = number(self.event.get("point", name))
        if value is None or abs(value) > most:
            self.fault(f"point.{name}", f"must be a number from {-most:g} to {most:g}, WGS-84")
            return None
        return value

    def words(self, path: str, name: str) -> str | None:
        """A short text for people; what is longer or holds control characters is left out."""
        value = (self.event.get(path, name) or "").strip()
        return value if value and len(value) <= ID_CHARACTERS_MAX and value.isprintable() else None

    def measure(self, path: str, name: str, least: float, most: float) -> float | None:
        """An optional number; CoT's "unknown", and what cannot be, is None."""
        value = number(self.event.get(path, name))
        return value if value is not None and least <= value <= most else None


def number(value: str | None) -> float | None:
    """A finite decimal number, None for anything else (NaN and Infinity have no digits)."""
    if value is None or len(value) > 60 or not _NUMBER.fullmatch(value.strip()):
        return None
    read = float(value)
    return read if abs(read) < float("inf") else None


def read_position(event: Element, row: int) -> Position | list[Fault]:
    """The position a CoT event tells, or every fault of it; `row` is 1-based."""
    read = _Reading(event, row)
    uid = read.identifier("uid")
    only = "only positions of friendly units (a-f-G, a-f-A, a-f-S) are taken"
    cot_type = read.code("type", _TEAM, only)
    if read.faults and cot_type and read.faults[-1].field == "type":
        return read.faults[-1:]  # another kind of message: nothing else of it matters
    how = read.code("how", _HOW, "must be a CoT code, such as m-g")
    observed_at, _, stale_at = read.time("time"), read.time("start"), read.time("stale")
    if observed_at and stale_at and stale_at < observed_at:
        read.fault("stale", "must not be before time")
    if event.find("point") is None:
        read.fault("point", "is missing")
        return read.faults
    lon, lat = read.degrees("lon", 180.0), read.degrees("lat", 90.0)
    if lon == 0 and lat == 0:
        # what TAK clients send until they have a fix
        read.fault("point", "is 0, 0: the device does not know its position yet")
    if read.faults or observed_at is None or stale_at is None or lon is None or lat is None:
        return read.faults
    battery = read.measure("detail/status", "battery", 0, 100)
    return Position(
        row=row,
        uid=uid,
        callsign=read.words("detail/contact", "callsign") or uid,
        cot_type=cot_type,
        how=how,
        group_name=read.words("detail/__group", "name"),
        group_role=read.words("detail/__group", "role"),
        observed_at=observed_at,
        stale_at=stale_at,
        lon=lon,
        lat=lat,
        accuracy_m=read.measure("point", "ce", 0, UNKNOWN_FROM - 1),
        height_m=read.measure("point", "hae", -12_000, UNKNOWN_FROM - 1),
        speed_mps=read.measure("detail/track", "speed", 0, 10_000),
        course_deg=read.measure("detail/track", "course", 0, 360),
        battery_percent=None if battery is None else int(battery),
        sha256=event.sha256().hex(),
    )
