"""Scenes for the map's tests: real borders, real rule packs, situations shaped as `/v1/situation`.

The assessments here are written by hand for display; grading has its own tests.
"""

from __future__ import annotations

import copy
import json
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

import shapely

from data.readers.boundaries import default_divisions
from geo.rules import RulePack

PLANS = ("communications-2024", "power-outage-2021", "special-equipment-2023")
PLANS_DIR = Path(__file__).resolve().parents[1] / "data" / "plans"
HOSTILE = (
    "<img src=x onerror=\"window.__owned='img'\">",
    "</script><script>window.__owned='script'</script>",
    "${window.__owned='template'}",
    "'-(window.__owned='quote')-'",
    "\u2028window.__owned='line'//\u2029",
    "<svg onload=\"window.__owned='svg'\">",
)


@lru_cache(maxsize=1)
def districts() -> dict[str, Any]:
    """The 37 districts in force now, thinned for display, as a FeatureCollection."""
    frame = default_divisions()[-1].frame.copy()
    frame["geometry"] = shapely.set_precision(
        shapely.coverage_simplify(frame.geometry.to_numpy(), 0.004), 1e-5
    )
    columns = ["adcode", "name", "name_en", "approximate", "source", "licence", "geometry"]
    collection: dict[str, Any] = json.loads(frame[columns].to_json(drop_id=True))
    return collection


@lru_cache(maxsize=2)
def packs(lang: str = "zh") -> dict[str, dict[str, Any]]:
    """The rule packs as `/v1/plans/{plan}` gives them."""
    return {
        plan: RulePack.from_dict(
            tomllib.loads((PLANS_DIR / f"{plan}.toml").read_text(encoding="utf-8")), f"{plan}.toml"
        ).as_json(lang)
        for plan in PLANS
    }


def assessment(plan: str, level: int | None = None, **more: Any) -> dict[str, Any]:
    label = {1: "Ⅰ", 2: "Ⅱ", 3: "Ⅲ", 4: "Ⅳ"}.get(level or 0)
    severity = {1: "特别重大", 2: "重大", 3: "较大", 4: "一般"}.get(level or 0)
    return {
        "plan": plan,
        "level": level,
        "label": label,
        "severity": None if plan == "communications-2024" else severity,
        "colour": {1: "red", 2: "orange", 3: "yellow", 4: "blue"}.get(level or 0),
        "findings": [],
        "next": [],
        "bounds": {"at_least": level, "at_most": level},
        "facts": {},
        "undeclared": [],
        "below_noise_floor": False,
    } | more


def calm(sequence: int = 1, as_of: str = "2026-11-21T03:00:00+08:00") -> dict[str, Any]:
    """Nothing lost anywhere; numbers differ by district so that a mix-up shows."""
    rows = []
    for number, feature in enumerate(districts()["features"]):
        stations = 800 + 40 * number
        rows.append(
            {
                "adcode": feature["properties"]["adcode"],
                "name": feature["properties"]["name"],
                "level": None,
                "plans": dict.fromkeys(PLANS),
                "facilities": {
                    "base_station": count(stations),
                    "exchange": count(8),
                    "tower": count(500 + number),
                    "substation": count(12),
                },
                "load": {"load_mw": 140.5 + 30 * number, "load_shed_mw": 0, "share": 0.0},
                "customers": {"total": 90_000 + 5000 * number, "out": 0, "share": 0.0},
                "population_affected": 0,
                "area_share": {"base_station": {"any": 0.0, "all": 0.0}},
            }
        )
    return {
        "as_of": as_of,
        "sequence": sequence,
        "units": [
            {
                "code": row["adcode"],
                "name": row["name"],
                "kind": "district",
                "adcodes": [row["adcode"]],
            }
            for row in rows
        ],
        "plans": {plan: assessment(plan) for plan in PLANS},
        "districts": rows,
        "synthetic": True,
    }


def count(total: int, down: int = 0, unknown: int = 0) -> dict[str, Any]:
    return {
        "total": total,
        "down": down,
        "unknown": unknown,
        "share_down": down / total if total else None,
    }


def district(situation: dict[str, Any], adcode: str) -> dict[str, Any]:
    return next(row for row in situation["districts"] if row["adcode"] == adcode)


def storm(sequence: int = 2, as_of: str = "2026-11-21T03:10:00+08:00") -> dict[str, Any]:
    """A storm in the north-east: 巫溪 exactly half down, 城口 just under, 开州 a little, 万州 no data."""
    scene = calm(sequence, as_of)
    comms, power, special = PLANS
    for adcode, down, unknown, level in (
        ("500238", 0.5, 12, 3), ("500229", 0.49, 6, 4), ("500154", 0.03, 0, 4), ("500236", 0.2, 40, 4),
    ):  # fmt: skip
        row = district(scene, adcode)
        total = row["facilities"]["base_station"]["total"] + 8
        row["facilities"]["base_station"] = count(total - 8, int(total * down) - 2, unknown)
        row["facilities"]["exchange"] = count(8, 2)
        row["plans"][comms] = row["level"] = level
        row["population_affected"] = 41_000
        row["area_share"] = {"base_station": {"any": 0.412, "all": 0.27}}
    for adcode, shed, out, level in (
        ("500238", 0.62, 0.71, 3),
        ("500229", 0.45, 0.3, 4),
        ("500236", 0.12, 0.1, None),
    ):
        row = district(scene, adcode)
        shed_mw = round(row["load"]["load_mw"] * shed, 3)
        row["load"] |= {"load_shed_mw": shed_mw, "share": shed}
        lost = int(row["customers"]["total"] * out)
        row["customers"] |= {"out": lost, "share": out}
        row["plans"][power] = level
    district(scene, "500107")["plans"][special] = 3
    district(scene, "500107")["level"] = 3
    unknown = district(scene, "500101")
    unknown["facilities"], unknown["load"], unknown["customers"] = {}, None, None
    scene["units"].append(
        {"code": "Z-WSJK", "name": "万盛经开区", "kind": "functional_zone", "adcodes": ["500110"]}
    )
    scene["plans"] = {
        comms: assessment(
            comms, 3,
            findings=[
                {"clause": "1.6.3(1)", "level": 3, "metric": "share_down", "value": 0.5, "threshold": 0.5, "districts": ["500238"]},
                {"clause": "1.6.3(1)", "level": 3, "metric": "facilities_down", "value": 4, "threshold": 2, "unit": "district", "districts": ["500238", "500229", "500154", "500236"]},
                {"clause": "1.6.4", "level": 4, "metric": "facilities_down", "value": 1300, "threshold": 1, "districts": ["500238", "500229", "500154", "500236"]},
            ],
            next=[
                {"clause": "1.6.2(1)", "level": 2, "metric": "share_down", "value": 1, "threshold": 2, "unit": "district", "short_by": 1, "districts": ["500229"], "needs": [{"adcode": "500229", "facilities": 11}, {"adcode": "500236", "facilities": 402}]},
            ],
            bounds={"at_least": 3, "at_most": 2},
            undeclared=["national_response", "exceeds_city_capacity", "municipal_key_service_down", "district_key_service_down"],
        ),
        power: assessment(
            power, 3,
            findings=[
                {"clause": "1.5.3(3)", "level": 3, "metric": "district_load_shed_share", "value": 0.62, "threshold": 0.6, "districts": ["500238"]},
                {"clause": "1.5.4(3)", "level": 4, "metric": "district_load_shed_share", "value": 0.45, "threshold": 0.4, "districts": ["500229", "500238"]},
            ],
            next=[{"clause": "1.5.2(1)", "level": 2, "metric": "load_shed_share", "value": 0.031, "threshold": 0.2, "short_by": 0.169, "districts": []}],
        ),
        special: assessment(
            special, 3,
            findings=[{"clause": "1.5.3(6)", "level": 3, "metric": "overturned", "value": True, "threshold": True, "districts": ["500107"], "incident_id": "9c5f"}],
            next=[{"clause": "1.5.2(1)", "level": 2, "metric": "deaths", "value": 1, "threshold": 10, "short_by": 9, "districts": ["500107"]}],
        ),
    }  # fmt: skip
    return scene


def hostile() -> tuple[dict[str, Any], dict[str, Any]]:
    """(districts, situation) in which every stored text is an attempt to run script."""
    borders = copy.deepcopy(districts())
    scene = storm(3)
    for number, feature in enumerate(borders["features"]):
        feature["properties"]["name"] = HOSTILE[number % len(HOSTILE)]
        feature["properties"]["name_en"] = HOSTILE[number % len(HOSTILE)]
    borders["source"] = HOSTILE[0]
    for number, row in enumerate(scene["districts"]):
        row["name"] = HOSTILE[(number + 1) % len(HOSTILE)]
        row["facilities"][HOSTILE[0]] = count(10, 1)
    scene["units"][-1]["name"] = HOSTILE[1]
    for plan in scene["plans"].values():
        plan["severity"] = HOSTILE[0]
        plan["undeclared"] = list(HOSTILE)
        for row in (*plan["findings"], *plan["next"]):
            row["text"] = HOSTILE[1]
            row["clause"] = HOSTILE[2]
            row["metric"] = HOSTILE[0]
            row["value"] = HOSTILE[5]
    return borders, scene
