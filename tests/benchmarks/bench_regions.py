"""How long a region takes over HTTP, from a corner of a district to the whole city.

The baseline is the query a careful author writes: one polygon, facilities and states joined.
"""

from __future__ import annotations

import http.client
import json
import statistics
import time
from typing import Any

import psycopg
import shapely

from data.readers.boundaries import default_divisions
from tests.benchmarks.bench_assign import Line
from tests.benchmarks.served import Served

BASELINE = "ST_Intersects GROUP BY"
ROUNDS = 5
PLAIN = """
SELECT f.kind, f.operator, s.state, count(*), sum(f.load_kw)
FROM facility f JOIN facility_state s ON s.facility_pk = f.pk
WHERE f.retired_at IS NULL AND ST_Intersects(f.geom, ST_SetSRID(%s::geometry, 4326))
GROUP BY 1, 2, 3
"""


def regions() -> dict[str, Any]:
    """A centre, a metropolis, the city drawn 2 km inside its border, and a box around it."""
    city = shapely.union_all(default_divisions()[-1].frame.geometry.to_numpy())
    return {
        "centre": shapely.box(106.5, 29.5, 106.62, 29.6),
        "metropolis": shapely.box(106.3, 29.3, 106.8, 29.8),
        "inside_the_border": shapely.simplify(shapely.buffer(city, -0.02), 0.001),
        "city": shapely.box(105, 28, 111, 33),
    }


def run(served: Served) -> list[Line]:
    """Medians over rounds in which both ways take turns."""
    link = http.client.HTTPConnection("127.0.0.1", served.port)
    headers = {"X-API-Key": served.keys["planner"], "Content-Type": "application/json"}
    lines: list[Line] = []
    with psycopg.connect(served.dsn, autocommit=True) as connection:
        for name, shape in regions().items():
            body = json.dumps({"geometry": json.loads(shapely.to_geojson(shape))}).encode()
            plain, ours = [], []
            for _ in range(ROUNDS):
                started = time.perf_counter()
                found = connection.execute(PLAIN, (shapely.to_wkb(shape, hex=True),)).fetchall()
                plain.append(time.perf_counter() - started)
                started = time.perf_counter()
                link.request("POST", "/v1/regions/query", body, headers)
                answer = json.loads(link.getresponse().read())
                ours.append(time.perf_counter() - started)
                total = sum(one["total"] for one in answer["facilities"].values())
                if total != sum(row[3] for row in found):
                    raise AssertionError(f"{name}: {total} facilities are not those of the query")
            slow, fast = (statistics.median(s) * 1000 for s in (plain, ours))
            lines.append((f"region_{name}", slow / fast, BASELINE, fast, "ms", slow, "ms"))
    return lines
