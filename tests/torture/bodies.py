"""Bodies that are no JSON, and geometries that are none, at every route that reads them."""

from __future__ import annotations

import json
import math
import time
from typing import Any
from uuid import uuid4

import numpy as np

from api.policy import POLICY, Rule
from tests.api.test_feeds_incidents import incident
from tests.api.test_strict_json import CANARY, HOSTILE
from tests.data.stored import at
from tests.torture.torture import Torture, row

JSON_WITHIN_S = 0.2
GEOMETRY_WITHIN_S = 1.0
LARGE = 1_000_000
ROLE_ORDER = ("commander", "utility", "planner", "field", "admin", "viewer")
#: Bodies of these are forms or files.
FORMS = ("/v1/token", "/login", "/logout", "/attachments", "/import", "/v1/cot")
IDS = {
    "plan": "special-equipment-2023",
    "incident_id": "0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6b",
    "scenario_id": "0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6c",
    "order_number": "CQ1",
}


def json_routes() -> list[tuple[Rule, str, str]]:
    """Every route that reads JSON: its row, a path, an account that may."""
    found = []
    for rule in POLICY:
        if rule.method in {"GET", "DELETE"} or rule.roles is None:
            continue
        if any(rule.path.endswith(end) for end in FORMS):
            continue
        who = next(role for role in ROLE_ORDER if role in rule.roles)
        found.append((rule, rule.path.format(**IDS), who))
    return found


@row(
    "bad-json", "bad JSON: NaN, 1e999, NUL, lone surrogates, depth, duplicates, at every JSON route"
)
def bad_json(torture: Torture) -> None:
    """4xx within 0.2 s, megabytes within a second, and never the input again in the answer."""
    site, figures = torture.site(), torture.figures
    routes = json_routes()
    names = list(HOSTILE)[:: 1 if torture.scale >= 1 else 6]
    slowest: list[float] = []
    for rule, path, who in routes:
        for name in names:
            body = HOSTILE[name]
            headers = {"Content-Type": "application/json", "If-Match": '"1"'}
            if rule.path.endswith("/outages"):
                headers["Content-Type"] = "application/geo+json"
            began = time.monotonic()
            answer = site.ask(rule.method, path, who, content=body, headers=headers, what=name)
            took_s = time.monotonic() - began
            if body.strip() or rule.path != "/v1/heartbeats":  # which may be empty
                figures.check(
                    400 <= answer.status_code < 500, f"{answer.status_code}: {rule} {name}"
                )
            figures.check(CANARY not in answer.text, f"echoes: {rule} {name}")
            figures.check(len(answer.content) < 4_000, f"{len(answer.content)} bytes: {name}")
            if len(body) < LARGE:
                slowest.append(took_s)
                limit_s = JSON_WITHIN_S * torture.factor()
            else:
                limit_s = GEOMETRY_WITHIN_S * torture.factor()
            figures.check(took_s < limit_s, f"{took_s:.2f} s: {rule} {name}")
    figures.own |= {"routes": len(routes), "bodies": len(names)}
    figures.own["median, slowest"] = (
        f"{np.median(slowest) * 1000:.0f}, {max(slowest) * 1000:.0f} ms"
    )


def spiky(vertices: int) -> dict[str, Any]:
    """A star with so many vertices: what buffers and intersections take longest for."""
    ring = []
    for i in range(vertices - 1):
        angle = 2 * math.pi * i / (vertices - 1)
        reach = 0.2 if i % 2 else 0.001
        ring.append([106.5 + reach * math.cos(angle), 29.5 + reach * math.sin(angle)])
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def asked_with(geometry: Any) -> list[tuple[str, str, str, Any]]:
    """Every door a geometry comes in by: path, account, and its body."""
    outage = {"outage_id": uuid4().hex, "revision": 1, "load_shed_kw": 1, "customers_out": 1}
    outage |= {"started_at": at(1), "facility_ids": []}
    return [
        ("/v1/regions/query", "viewer", "json", {"geometry": geometry}),
        ("/v1/regions/query", "viewer", "json", {"geometry": geometry, "buffer_m": 900}),
        (
            "/v1/outages",
            "utility",
            "json",
            {"type": "Feature", "geometry": geometry, "properties": outage},
        ),
        (
            "/v1/scenarios/evaluate",
            "planner",
            "json",
            {"changes": [{"footprint": geometry, "state": "down"}]},
        ),
        (
            "/v1/scenarios",
            "planner",
            "json",
            {"name": "x", "changes": [{"footprint": geometry, "state": "down"}]},
        ),
    ]


@row("geometry", "runaway geometry: 20k and 50k spiky vertices refused within a second")
def geometry(torture: Torture) -> None:
    site, figures = torture.site(), torture.figures
    took: list[float] = []
    for _ in range(torture.count(5)):
        for vertices in (20_000, 50_000):
            star = spiky(vertices)
            many = {"type": "MultiPolygon", "coordinates": [spiky(5_000)["coordinates"]] * 10}
            collection = {"type": "GeometryCollection", "geometries": [star]}
            for shape in (star, many, collection):
                for path, who, _, body in asked_with(shape):
                    content = json.dumps(body).encode()
                    began = time.monotonic()
                    answer = site.ask(
                        "POST",
                        path,
                        who,
                        content=content,
                        headers={"Content-Type": "application/json"},
                    )
                    took.append(time.monotonic() - began)
                    figures.check(
                        answer.status_code in (413, 422), f"{answer.status_code}: {path} {vertices}"
                    )
                    figures.check(
                        took[-1] < GEOMETRY_WITHIN_S * torture.factor(), f"{took[-1]:.2f} s: {path}"
                    )
    within = spiky(9_990)  # below the cap on vertices, above that on sides
    for path, who, _, body in asked_with(within):
        began = time.monotonic()
        answer = site.ask("POST", path, who, json=body, timeout=60)
        took.append(time.monotonic() - began)
        figures.check(answer.status_code in (413, 422), f"{answer.status_code}: {path} 9,990")
        figures.check(
            took[-1] < GEOMETRY_WITHIN_S * torture.factor(), f"{took[-1]:.2f} s: {path} 9,990"
        )
    figures.own["slowest refusal"] = f"{max(took):.2f} s"


SQUARE = [[106.5, 29.5], [106.6, 29.5], [106.6, 29.6], [106.5, 29.6], [106.5, 29.5]]
BAD_GEOMETRIES: dict[str, str] = {
    "overflow and nan": '{"type":"Point","coordinates":[1e400, NaN]}',
    "overflow": '{"type":"Point","coordinates":[1e400,29.5]}',
    "huge": '{"type":"Polygon","coordinates":[[[1e308,29],[-1e308,29],[0,1e308],[1e308,29]]]}',
    "latitude 95": '{"type":"Polygon","coordinates":[[[106,95],[107,95],[107,96],[106,95]]]}',
    "bowtie": '{"type":"Polygon","coordinates":[[[106,29],[107,30],[107,29],[106,30],[106,29]]]}',
    "unclosed": '{"type":"Polygon","coordinates":[[[106,29],[107,29],[107,30]]]}',
    "two points": '{"type":"Polygon","coordinates":[[[106,29],[106,29]]]}',
    "all one point": '{"type":"Polygon","coordinates":[[[106,29],[106,29],[106,29],[106,29]]]}',
    "no ring": '{"type":"Polygon","coordinates":[]}',
    "empty ring": '{"type":"Polygon","coordinates":[[]]}',
    "hole outside": json.dumps(
        {"type": "Polygon", "coordinates": [SQUARE, [[x + 3, y] for x, y in SQUARE]]}
    ),
    "numbers as text": '{"type":"Polygon","coordinates":[[["106","29"],["107","29"],["107","30"],["106","29"]]]}',
    "null": '{"type":"Polygon","coordinates":[[[null,29],[107,29],[107,30],[null,29]]]}',
    "true": '{"type":"Polygon","coordinates":[[[true,29],[107,29],[107,30],[true,29]]]}',
    "one number": '{"type":"Polygon","coordinates":[[[106],[107],[108],[106]]]}',
    "coordinates an object": '{"type":"Polygon","coordinates":{"x":1}}',
    "no coordinates": '{"type":"Polygon"}',
    "unknown type": '{"type":"Circle","coordinates":[106,29],"radius":5}',
    "type a number": '{"type":7,"coordinates":[106,29]}',
    "type a list": '{"type":["Polygon"],"coordinates":[]}',
    "a list": "[[106,29]]",
    "a text": '"POLYGON((0 0,1 0,1 1,0 0))"',
    "collection of itself": '{"type":"GeometryCollection","geometries":{"type":"Point"}}',
    "nested 30": '{"type":"GeometryCollection","geometries":[' * 9 + "]}" * 9,
    "nested 200,000": '{"type":"GeometryCollection","geometries":[' * 200_000,
    "brackets 200,000": '{"type":"Polygon","coordinates":' + "[" * 200_000 + "]" * 200_000 + "}",
}


@row("bad-geometry", "bad geometry: NaN, latitude 95, bowtie, unclosed, nested 200,000 deep")
def bad_geometry(torture: Torture) -> None:
    site, figures = torture.site(), torture.figures
    stored = site.sql("SELECT count(*) FROM outage")
    refused = 0
    for name, shape in BAD_GEOMETRIES.items():
        for path, who, _, body in asked_with("GEOMETRY"):
            content = json.dumps(body).replace('"GEOMETRY"', shape).encode()
            answer = site.ask(
                "POST",
                path,
                who,
                content=content,
                headers={"Content-Type": "application/json"},
                what=name,
            )
            figures.check(answer.status_code in (413, 422), f"{answer.status_code}: {path} {name}")
            refused += answer.status_code in (413, 422)
        for position in (f'"{name}"', "[1e400, NaN]", "[106.5, 95]", "[null, 1]", shape):
            content = json.dumps(incident(position="P")).replace('"P"', position).encode()
            answer = site.ask("POST", "/v1/incidents", "field", content=content, what=name)
            figures.check(
                answer.status_code in (413, 422), f"{answer.status_code}: {position[:60]}"
            )
            refused += answer.status_code in (413, 422)
    found = site.sql("SELECT count(*) FROM outage") - stored
    figures.check(found == 0, f"{found} outages of bad geometry are stored")
    left = site.sql("SELECT count(*) FROM outage WHERE geom IS NOT NULL AND NOT ST_IsValid(geom)")
    figures.check(left == 0, f"{left} invalid geometries stored")
    figures.own |= {"shapes": len(BAD_GEOMETRIES), "refused": refused}


ENGLISH = {"Accept-Language": "en"}
SWAPPED = [(29.553, 106.553), (29.62, 106.40), (29.51, 106.63)]


@row(
    "datum",
    "swapped axes, wrong datum: 422 with the hint; GCJ-02 and BD-09 converted, original kept",
)
def datum(torture: Torture) -> None:
    site, figures = torture.site(), torture.figures
    hinted = converted = 0
    for lat, lon in SWAPPED:
        ring = [[lat + a, lon + b] for a, b in ((0, 0), (0.01, 0), (0.01, 0.01), (0, 0))]
        shape = {"type": "Polygon", "coordinates": [ring]}
        asked: list[tuple[str, str, Any]] = [
            (path, who, body) for path, who, _, body in asked_with(shape)
        ]
        asked.append(("/v1/incidents", "field", incident(position=[lat, lon])))
        for path, who, body in asked:
            if "buffer_m" in body:
                continue  # which goes with a line
            answer = site.ask("POST", path, who, json=body, headers=ENGLISH)
            figures.check(answer.status_code == 422, f"{answer.status_code}: {path} swapped")
            hint = "exchanged" in answer.text or "swapped" in answer.text
            figures.check(hint, f"no hint: {path} {answer.text[:200]}")
            hinted += hint
        table = (
            f"facility_id,name,kind,operator,lon,lat,crs\nS1,S1,substation,grid,{lat},{lon},WGS84\n"
        )
        answer = site.ask(
            "POST",
            "/v1/facilities/import",
            "planner",
            files={"file": ("rows.csv", table.encode())},
        )
        figures.check(answer.status_code == 422, f"{answer.status_code}: import swapped")
    site_positions: dict[str, Any] = {}
    for crs in ("WGS84", "GCJ-02", "BD-09"):
        body = incident(position=[106.553, 29.553], crs=crs)
        answer = site.ask("POST", "/v1/incidents", "field", json=body)
        shown = site.ask("GET", f"/v1/incidents/{body['incident_id']}", "commander").json()
        site_positions[crs] = shown["geometry"]["coordinates"][:2]
        kept = site.sql(
            "SELECT count(*) FROM incident_revision WHERE incident_id = CAST(:id AS uuid)",
            id=body["incident_id"],
        )
        original = site.sql(
            "SELECT original_position #>> '{}' FROM incident WHERE incident_id = CAST(:id AS uuid)",
            id=body["incident_id"],
        )
        figures.check(kept == 1, "no revision")
        figures.check(original is not None and "106.553" in str(original), str(original))
        converted += 1
    true = _metres(site_positions["WGS84"], site_positions["GCJ-02"])
    baidu = _metres(site_positions["WGS84"], site_positions["BD-09"])
    figures.check(300 < true < 900, f"GCJ-02 moved by {true:.0f} m")
    figures.check(700 < baidu < 2_000, f"BD-09 moved by {baidu:.0f} m")
    figures.own |= {"hints": hinted, "converted": converted}
    figures.own["moved"] = f"{true:.0f} m GCJ-02, {baidu:.0f} m BD-09"


def _metres(one: list[float], other: list[float]) -> float:
    dx = (one[0] - other[0]) * 111_320 * math.cos(math.radians(29.5))
    return math.hypot(dx, (one[1] - other[1]) * 110_850)
