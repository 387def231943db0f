"""A hypothetical: what a planner supposes, read at the door with every fault named.

docs/meanings.md, "Regions and scenarios". Nothing here touches the database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from data.fields import Fields, body_sha256, refuse_unknown, require_object
from data.outage_feature import ReportedOutage, read_outage
from geo.errors import Fault, InvalidInput, TooLarge
from geo.region import Region, read_region

CHANGES_MAX: Final = 100
FACILITY_IDS_MAX: Final = 10_000
HOURS_MAX: Final = 168.0
STATES: Final = ("down", "up")
FORMS: Final = ("facilities", "adcodes", "footprint", "outage", "restore", "incident")
SELECTION_MEMBERS: Final = (*FORMS[:3], "state", "kind", "operator", "crs", "radius_m", "buffer_m")
INCIDENT_MEMBERS: Final = ("plan", "kind", "adcode", "facts", "minute")


@dataclass(frozen=True)
class Selection:
    """Facilities that are supposed to be `state`: by id, or in a region by kind and operator.

    `row`: which of the changes says so, from 1.
    """

    state: str
    row: int
    facility_ids: tuple[str, ...] = ()
    region: Region | None = None
    kind: str | None = None
    operator: str | None = None


@dataclass(frozen=True)
class SupposedIncident:
    """An incident that is supposed to be open from `minute` on."""

    plan: str
    kind: str
    adcode: str | None
    facts: Mapping[str, Any]
    minute: int


@dataclass(frozen=True)
class Scenario:
    """What is supposed, in order: where two speak of one facility the later holds."""

    at: datetime | None = None
    hours: float | None = None
    selections: tuple[Selection, ...] = ()
    outages: tuple[ReportedOutage, ...] = ()
    restored_outages: tuple[str, ...] = ()
    incidents: tuple[SupposedIncident, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)


def read_scenario(body: Any, parse_at: Callable[[str | None], datetime | None]) -> Scenario:
    """The scenario in {"at"?, "hours"?, "changes": [...]}. Raises InvalidInput with every fault."""
    given = require_object(body, "a scenario")
    faults: list[Fault] = []
    read = Fields(given, faults)
    at = given.get("at")
    if at is not None and not isinstance(at, str):
        read.fault("at", "must be a time with offset")
        at = None
    hours = read.measure("hours", at_most=HOURS_MAX)
    changes = given.get("changes")
    if not isinstance(changes, list):
        read.fault("changes", "must be a list of what is supposed")
        changes = []
    elif len(changes) > CHANGES_MAX:
        raise TooLarge([Fault(f"lists more than {CHANGES_MAX} changes", None, "changes")])
    found: list[Any] = []
    for row, change in enumerate(changes, 1):
        try:
            found.append(_read_change(change, row))
        except TooLarge:
            raise
        except InvalidInput as error:
            faults += [Fault(f.reason, row, f.field or "changes") for f in error.faults]
    if faults:
        raise InvalidInput(faults)
    return Scenario(
        at=parse_at(at),
        hours=hours,
        selections=tuple(c for c in found if isinstance(c, Selection)),
        outages=tuple(c for c in found if isinstance(c, ReportedOutage)),
        restored_outages=tuple(one for c in found if isinstance(c, tuple) for one in c),
        incidents=tuple(c for c in found if isinstance(c, SupposedIncident)),
        body=given,
    )


def _read_change(change: Any, row: int) -> Any:
    given = require_object(change, "a change")
    refuse_unknown(given, (*SELECTION_MEMBERS, *FORMS[3:]))
    named = [form for form in FORMS if given.get(form) is not None]
    if len(named) != 1:
        raise InvalidInput([Fault(f"give exactly one of {', '.join(FORMS)}", None, "changes")])
    form = named[0]
    refuse_unknown(given, SELECTION_MEMBERS if form in SELECTION_MEMBERS else (form,))
    if form == "outage":
        return _read_outage(given["outage"], row)
    if form == "incident":
        return _read_incident(given["incident"])
    if form == "restore":
        inner = require_object(given["restore"], "restore")
        if inner.get("outages") is not None:
            refuse_unknown(inner, ("outages",))
            return _texts(inner["outages"], "outages")
        refuse_unknown(inner, SELECTION_MEMBERS)
        return _read_selection({**inner, "state": "up"}, row)
    return _read_selection(given, row)


def _read_selection(given: Mapping[str, Any], row: int) -> Selection:
    faults: list[Fault] = []
    read = Fields(given, faults)
    state = read.choice("state", STATES, required=True) or "down"
    kind, operator = read.identifier("kind"), read.identifier("operator")
    region = None
    ids: tuple[str, ...] = ()
    if given.get("facilities") is not None:
        ids = _texts(given["facilities"], "facilities")
    elif given.get("adcodes") is not None:
        region = read_region({"adcodes": given["adcodes"]})
        if kind is None and not faults:
            read.fault("kind", "is missing; say which kind of facility in these districts")
    elif given.get("footprint") is not None:
        names = ("crs", "radius_m", "buffer_m")
        place = {name: given[name] for name in names if name in given}
        region = read_region({**place, "geometry": given["footprint"]})
    else:
        read.fault("facilities", "is missing; give facilities, adcodes or footprint")
    if faults:
        raise InvalidInput(faults)
    return Selection(state, row, ids, region, kind, operator)


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise InvalidInput([Fault("must be a list of at least one id", None, name)])
    if len(value) > FACILITY_IDS_MAX:
        raise TooLarge([Fault(f"lists more than {FACILITY_IDS_MAX} ids", None, name)])
    if any("\x00" in one or len(one) > 200 for one in value):
        raise InvalidInput([Fault("holds what is no id", None, name)])
    return tuple(dict.fromkeys(value))


def _read_outage(value: Any, row: int) -> ReportedOutage:
    """A Feature as for /v1/outages, or its properties with `geometry` and `crs` beside them."""
    given = require_object(value, "an outage")
    if given.get("type") != "Feature":
        properties = {k: v for k, v in given.items() if k not in ("geometry", "crs")}
        given = {
            "type": "Feature",
            "geometry": given.get("geometry"),
            "crs": given.get("crs"),
            "properties": properties,
        }
    stated = given.get("properties")
    defaults = {
        "outage_id": f"supposed-{row}",
        "revision": 1,
        "started_at": datetime.now(UTC).isoformat(),
    }
    if isinstance(stated, Mapping):
        given = {**given, "properties": {**defaults, **stated}}
    return read_outage(given)


def _read_incident(value: Any) -> SupposedIncident:
    given = require_object(value, "an incident")
    refuse_unknown(given, INCIDENT_MEMBERS)
    faults: list[Fault] = []
    read = Fields(given, faults)
    plan = read.identifier("plan") or "special-equipment-2023"
    kind = read.identifier("kind") or "elevator"
    adcode = read.identifier("adcode")
    facts = given.get("facts")
    if not isinstance(facts, Mapping):
        read.fault("facts", "must be an object of named facts")
        facts = {}
    minute = read.amount("minute", at_most=int(HOURS_MAX * 60)) or 0
    if faults:
        raise InvalidInput(faults)
    return SupposedIncident(plan, kind, adcode, dict(facts), minute)


def same_body(scenario: Scenario) -> bytes:
    """What makes two scenarios the same."""
    return body_sha256(orjson.loads(orjson.dumps(dict(scenario.body))))
