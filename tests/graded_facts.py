"""Facts of the three plans as the grading tests write them, and the packs in force."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from data.rulepacks import load_packs

PACKS = load_packs()
COMMS = PACKS.current("communications-2024")
POWER = PACKS.current("power-outage-2021")
SPECIAL = PACKS.current("special-equipment-2023")
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)

Facts = dict[str, Any]
# Everything of an incident known and harmless, so that one fact at a time can be set.
HARMLESS: Facts = {
    "equipment": "in_plant_vehicle",
    "deaths": 0,
    "serious_injuries": 0,
    "direct_loss_yuan": 0,
    "exploded": False,
    "boiler_mw": 0,
    "safety_fault": False,
    "shutdown_hours": 0,
    "toxic_leak": False,
    "people_relocated": 0,
    "people_stranded": 0,
    "stranded_hours": 0,
    "overturned": False,
    "structure_broken": False,
    "hoist_fell": False,
}


def incident(**facts: Any) -> Facts:
    return HARMLESS | facts


def comms(*districts: tuple[int | None, int | None], **facts: Any) -> Facts:
    """Districts as (total, down), numbered from 500101."""
    rows = [
        {"adcode": str(500101 + n), "facilities_total": total, "facilities_down": down}
        for n, (total, down) in enumerate(districts)
    ]
    return {"districts": rows, **facts}


def city(load: Any, shed: Any, customers: Any, out: Any) -> Facts:
    names = ("load_mw", "load_shed_mw", "customers", "customers_out")
    return {"city": dict(zip(names, (load, shed, customers, out), strict=True))}


def district(load: Any, shed: Any, customers: Any, out: Any, adcode: str = "500101") -> Facts:
    names = ("load_mw", "load_shed_mw", "customers", "customers_out")
    return {"adcode": adcode, **dict(zip(names, (load, shed, customers, out), strict=True))}


def power(*districts: Facts) -> Facts:
    return {**city(30000, 0, 1000000, 0), "districts": list(districts)}


def clauses(assessment: Facts, level: int | None = None) -> set[str]:
    return {f["clause"] for f in assessment["findings"] if level in (None, f["level"])}


def leak(equipment: str, people: int) -> Facts:
    return incident(equipment=equipment, toxic_leak=True, people_relocated=people)


def stranded(equipment: str, people: int, hours: float) -> Facts:
    return incident(equipment=equipment, people_stranded=people, stranded_hours=hours)


def outage(mw: float, hours: float, fault: bool = True) -> Facts:
    return incident(equipment="boiler", boiler_mw=mw, shutdown_hours=hours, safety_fault=fault)
