"""Scenes for the map's tests: real borders, real rule packs, situations shaped as `/v1/situation`.

The numbers of districts are written by hand; their assessments come from the real grader.
"""

from __future__ import annotations

import copy
import json
import tomllib
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from shapely.geometry import shape

from data.readers.boundaries import default_divisions
from geo.districts import simplify_for_display
from geo.grade import RulePack, assess, district_levels, worst_of
from maps.layers import label_circle
from maps.map_view import MapView
from maps.text import Lang

PLANS = ("communications-2024", "power-outage-2021", "special-equipment-2023")
PLANS_DIR = Path(__file__).resolve().parents[1] / "data" / "plans"
INCIDENT: dict[str, Any] = {
    "type": "Feature",
    "geometry": {"type": "Point", "coordinates": [106.45, 29.5]},
    "properties": {
        "incident_id": "7f3c2c5e-6f61-4a35-9d0e-2d3f0a6b7c11",
        "adcode": "500107",
        "plan": "special-equipment-2023",
        "kind": "crane",
        "state": "verified",
        "level": 3,
        "occurred_at": "2026-11-21T02:00:00+08:00",
    },
}
OUTAGE: dict[str, Any] = {
    "type": "Feature",
    "geometry": {
        "type": "Polygon",
        "coordinates": [
            [[109.2, 31.2], [109.8, 31.2], [109.8, 31.6], [109.2, 31.6], [109.2, 31.2]]
        ],
    },
    "properties": {"outage_id": "o-1", "revision": 1, "cause": "雷击", "planned": False},
}
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
    frame = simplify_for_display(default_divisions()[-1].frame, 400)
    columns = ["adcode", "name", "name_en", "approximate", "source", "licence", "geometry"]
    collection: dict[str, Any] = json.loads(frame[columns].to_json(drop_id=True))
    return collection


@lru_cache(maxsize=1)
def rule_packs() -> dict[str, RulePack]:
    """The rule packs of the project's own files."""
    return {
        plan: RulePack.from_dict(
            tomllib.loads((PLANS_DIR / f"{plan}.toml").read_text(encoding="utf-8")), f"{plan}.toml"
        )
        for plan in PLANS
    }


def packs(lang: str = "zh") -> dict[str, dict[str, Any]]:
    """The rule packs as `/v1/plans/{plan}` gives them."""
    return {plan: pack.as_json(lang) for plan, pack in rule_packs().items()}


def view(lang: Lang = "zh", **said: Any) -> MapView:
    """All districts and packs for an account, now and without a situation, or as said otherwise."""
    own = {"districts": districts(), "packs": packs(lang), "at": None, "csrf": "token"}
    return MapView(lang=lang, **(own | {"user": {"username": "commander"}} | said))


def graded(rows: list[dict[str, Any]], incident: dict[str, Any] | None) -> dict[str, Any]:
    """The three assessments of these district rows and at most one incident, by the real grader."""
    comms, power, special = PLANS
    kinds = ("base_station", "exchange")
    facts: dict[str, dict[str, Any]] = {
        comms: {
            "districts": [
                {"adcode": row["adcode"]}
                | {
                    f"facilities_{what}": sum(row["facilities"][kind][what] for kind in kinds)
                    for what in ("total", "down", "unknown")
                }
                for row in rows
                if row["facilities"]
            ]
        },
        power: {
            "city": {"load_mw": 24_000, "load_shed_mw": 1400, "customers": 12_000_000, "customers_out": 700_000},
            "districts": [
                {"adcode": row["adcode"], "load_mw": row["load"]["load_mw"], "load_shed_mw": row["load"]["load_shed_mw"], "customers": row["customers"]["total"], "customers_out": row["customers"]["out"]}
                for row in rows
                if row["load"]
            ],
        },
        special: incident or {"equipment": "elevator"},
    }  # fmt: skip
    found = {}
    now = datetime(2026, 11, 21, tzinfo=UTC)
    for plan in PLANS:
        found[plan] = assess(rule_packs()[plan], facts[plan], now=now) | {
            "below_noise_floor": False
        }
        levels = district_levels(rule_packs()[plan], facts[plan], now)
        for row in rows:
            row["plans"][plan] = levels.get(row["adcode"])
    for row in rows:
        row["level"] = min((level for level in row["plans"].values() if level), default=None)
    return found


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
    scene: dict[str, Any] = {
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
        "districts": rows,
        "synthetic": True,
    }
    scene["plans"] = graded(rows, None)
    return scene


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
    for adcode, down, unknown in (
        ("500238", 0.5, 12), ("500229", 0.49, 20), ("500154", 0.03, 0), ("500236", 0.2, 40),
    ):  # fmt: skip
        row = district(scene, adcode)
        total = row["facilities"]["base_station"]["total"] + 8
        row["facilities"]["base_station"] = count(total - 8, int(total * down) - 2, unknown)
        row["facilities"]["exchange"] = count(8, 2)
        row["population_affected"] = 41_000
        row["area_share"] = {"base_station": {"any": 0.412, "all": 0.27}}
    for adcode, shed, out in (("500238", 0.62, 0.71), ("500229", 0.45, 0.3), ("500236", 0.12, 0.1)):
        row = district(scene, adcode)
        load_mw = row["load"]["load_mw"]
        row["load"] |= {"load_shed_mw": round(load_mw * shed, 3), "share": shed}
        row["customers"] |= {"out": int(row["customers"]["total"] * out), "share": out}
    unknown_row = district(scene, "500101")
    unknown_row |= {"facilities": {}, "load": None, "customers": None, "population_affected": None}
    scene["units"].append(
        {"code": "Z-WSJK", "name": "万盛经开区", "kind": "functional_zone", "adcodes": ["500110"]}
    )
    scene["plans"] = graded(
        scene["districts"], {"equipment": "crane", "overturned": True, "deaths": 1}
    )
    special = PLANS[2]
    for finding in scene["plans"][special]["findings"]:
        finding["incident_id"] = INCIDENT["properties"]["incident_id"]
    struck = district(scene, "500107")
    struck["plans"][special] = struck["level"] = 3
    return scene


def in_the_centre(sequence: int = 2, as_of: str = "2026-11-21T03:10:00+08:00") -> dict[str, Any]:
    """Small districts side by side struck at once: 渝中 and 沙坪坝 over half, 九龙坡, 南岸, 大渡口 less."""
    scene = calm(sequence, as_of)
    shares = {"500103": 0.6, "500106": 0.55, "500107": 0.1, "500108": 0.3, "500104": 0.2}
    for adcode, down in shares.items():
        row = district(scene, adcode)
        total = row["facilities"]["base_station"]["total"]
        row["facilities"]["base_station"] = count(total, int(total * down) + 1)
        row["facilities"]["exchange"] = count(8, 5 if down > 0.5 else 0)
    scene["plans"] = graded(scene["districts"], None)
    return scene


def with_incidents(
    scene: dict[str, Any], incidents: list[tuple[str, str, dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Open incidents (id, adcode, facts) in a scene: its special-equipment assessment becomes the
    service's own, and the features are what `/v1/incidents` then lists, each inside its district."""
    special = PLANS[2]
    now = datetime(2026, 11, 21, tzinfo=UTC)
    found, features = [], []
    for incident_id, adcode, facts in incidents:
        one = assess(rule_packs()[special], facts, now=now)
        mark = {"incident_id": incident_id, "districts": [adcode]}
        one["findings"] = [{**finding, **mark} for finding in one["findings"]]
        found.append(one)
        row = district(scene, adcode)
        levels = [v for v in (row["plans"][special], one["level"]) if v]
        row["plans"][special] = min(levels, default=None)
        row["level"] = min((v for v in row["plans"].values() if v), default=None)
        row.setdefault("incidents", {}).setdefault(special, 0)
        row["incidents"][special] += 1
        border = next(
            f["geometry"] for f in districts()["features"] if f["properties"]["adcode"] == adcode
        )
        lon, lat, _ = label_circle(shape(border)) or (0, 0, 0)
        place = {"type": "Point", "coordinates": [lon, lat]}
        properties = INCIDENT["properties"] | {
            "incident_id": incident_id,
            "adcode": adcode,
            "kind": facts["equipment"],
            **{name: one[name] for name in ("level", "bounds", "unknown")},
        }
        features.append({"type": "Feature", "geometry": place, "properties": properties})
    scene["plans"][special] = worst_of(found) | {"incidents": len(found)}
    return features


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
        plan["undeclared"] = [{"fact": text, "level": 1, "clause": text} for text in HOSTILE]
        plan["unknown"] = list(HOSTILE)
        for row in (*plan["findings"], *plan["next"]):
            row["text"] = HOSTILE[1]
            row["clause"] = HOSTILE[2]
            row["metric"] = HOSTILE[0]
            row["value"] = HOSTILE[5]
    return borders, scene
