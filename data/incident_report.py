"""One reported incident: the body as it arrives, every fault collected, its position in WGS-84.

docs/meanings.md: special equipment is graded per incident, so `kind` is the equipment there and
`facts` the rest. The original position and its declared system are kept beside the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from data.fields import Fields, require_object
from data.hotline import HotlineOrder, read_order
from data.rulepacks import RulePacks
from geo.crs import WGS84, parse_crs
from geo.errors import CrsError, Fault, InvalidInput, NotFound
from geo.grade import RulePack, check_facts
from geo.position import Position, read_position

AHEAD_MAX = timedelta(minutes=5)
#: In plans that grade each incident by itself, the fact that an incident's `kind` states.
KIND_FACT = "equipment"


@dataclass(frozen=True)
class ReportedIncident:
    """A valid incident. `position` is longitude, latitude in WGS-84, or None.

    `hints` are the warnings of `geo.position`; `place_text` is where a district may be named;
    `crs_declared` is False for a position whose system nobody stated, read as WGS84.
    """

    incident_id: UUID
    plan: str
    kind: str
    occurred_at: datetime
    facts: dict[str, Any]
    crs: str | None
    original_position: Any
    position: tuple[float, float] | None
    accuracy_m: float | None
    facility_id: str | None
    hints: tuple[str, ...] = ()
    place_text: str = ""
    crs_declared: bool = True
    hotline: HotlineOrder | None = None


def read_incident(body: Any, packs: RulePacks, now: datetime) -> ReportedIncident:
    """The incident in a parsed body, checked against the plan's rules in force at `now`.

    Raises InvalidInput naming every fault; a position outside Chongqing that is inside with its
    numbers exchanged is one, with that hint.
    """
    given = require_object(body, "an incident")
    faults: list[Fault] = []
    read = Fields(given, faults)
    pack = _read_plan(read, packs, now)
    kind = read.identifier("kind", required=True)
    occurred_at = read.time("occurred_at", required=True)
    if occurred_at is not None and occurred_at > now + AHEAD_MAX:
        read.fault("occurred_at", "lies more than five minutes ahead; check the clock")
    facts = _read_facts(read, pack, kind, now)
    system, position = _read_position(read)
    read.time("device_time")
    address = read.words("address", characters_max=500)
    read.words("description", characters_max=10_000)
    read.words("source", characters_max=200)
    _check_reporter(read)
    incident_id = _read_uuid(read)
    accuracy_m = read.measure("accuracy_m", at_most=1e6)
    facility_id = read.identifier("facility_id")
    hotline = read_order(read, now)
    if faults or incident_id is None or pack is None or occurred_at is None:
        raise InvalidInput(faults)
    return ReportedIncident(
        incident_id=incident_id,
        plan=pack.plan,
        kind=kind or "",
        occurred_at=occurred_at,
        facts=facts,
        crs=system,
        original_position=given.get("position"),
        position=position.place if position else None,
        accuracy_m=accuracy_m,
        facility_id=facility_id,
        hints=position.hints if position else (),
        place_text=address or "",
        crs_declared=position is None or given.get("crs") is not None,
        hotline=hotline,
    )


def check_incident_facts(
    pack: RulePack, kind: str, facts: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """The facts an incident is graded on: its own and, where the plan asks, its kind.

    Raises InvalidInput; a fault of the kind is named `kind`, others `facts.<name>`.
    """
    by_kind = KIND_FACT in pack.schema.groups[""].facts
    graded = dict(facts)
    if by_kind:
        if facts.get(KIND_FACT) not in (None, kind):
            reason = "differs from kind, which states it; leave it out"
            raise InvalidInput([Fault(reason, None, f"facts.{KIND_FACT}")])
        graded[KIND_FACT] = kind
    try:
        check_facts(pack, graded, now)
    except InvalidInput as error:
        raise InvalidInput(
            Fault(
                f.reason,
                f.row,
                "kind"
                if by_kind and f.field == KIND_FACT
                else f"facts.{f.field or ''}".rstrip("."),
            )
            for f in error.faults
        ) from None
    return graded


def _read_plan(read: Fields, packs: RulePacks, now: datetime) -> RulePack | None:
    plan = read.identifier("plan", required=True)
    if plan is None:
        return None
    try:
        return packs.at(plan, now)
    except NotFound:
        read.fault("plan", f"must be one of {', '.join(packs.plans())}")
        return None


def _read_facts(
    read: Fields, pack: RulePack | None, kind: str | None, now: datetime
) -> dict[str, Any]:
    facts = read.raw("facts")
    if facts is None:
        facts = {}
    if not isinstance(facts, Mapping):
        read.fault("facts", "must be an object of named facts")
        return {}
    if pack is None or kind is None:
        return {}
    try:
        return check_incident_facts(pack, kind, facts, now)
    except InvalidInput as error:
        read.faults += error.faults
        return {}


def _read_uuid(read: Fields) -> UUID | None:
    value = read.raw("incident_id", required=True)
    if value is None:
        return None
    try:
        if type(value) is not str or len(value) != 36:
            raise ValueError
        return UUID(value)
    except ValueError:
        read.fault("incident_id", "must be a UUID such as 0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6b")
        return None


def _read_position(read: Fields) -> tuple[str | None, Position | None]:
    """The declared system, WGS84 when none is, and the position; (None, None) without one."""
    value, stated = read.raw("position"), read.raw("crs")
    try:
        if stated is not None and type(stated) is not str:
            raise CrsError([Fault("must be a text such as WGS84 or GCJ-02", None, "crs")])
        system = WGS84 if stated is None else parse_crs(stated)
        if value is None:
            return None, None
        return system, read_position(value, system)
    except InvalidInput as error:
        read.faults += error.faults
        return None, None


def _check_reporter(read: Fields) -> None:
    reporter = read.raw("reporter")
    if reporter is None:
        return
    if not isinstance(reporter, Mapping):
        read.fault("reporter", "must be an object with name and phone")
        return
    inside = Fields(reporter, read.faults, prefix="reporter.")
    inside.words("name", characters_max=100)
    inside.words("phone", characters_max=40)
    if set(reporter) - {"name", "phone"}:
        read.fault("reporter", "has members beside name and phone")
