"""How long a region takes over HTTP, from a corner of a district to the whole city, now and past.

The baseline is the query a careful author writes: one polygon, facilities and states joined. It
answers for the present only; the past, a tenth of the facilities spoken of since, is held against
it too.
"""

from __future__ import annotations

import http.client
import json
import statistics
import time
import urllib.parse
from datetime import UTC, datetime
from typing import Any

import psycopg
import shapely

from data.readers.boundaries import default_divisions
from tests.benchmarks.bench_assign import Line
from tests.benchmarks.served import Served

BASELINE = "ST_Intersects GROUP BY"
ROUNDS = 5
BATCH = 1_000
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
    """Medians over rounds in which the three ways take turns."""
    link = http.client.HTTPConnection("127.0.0.1", served.port)
    lines: list[Line] = []
    with psycopg.connect(served.dsn, autocommit=True) as connection:
        before = connection.execute("SELECT clock_timestamp()").fetchone()
        assert before is not None
        query = f"/v1/regions/query?{urllib.parse.urlencode({'at': before[0].isoformat()})}"
        then = {name: _ask(served, link, query, shape)[1] for name, shape in regions().items()}
        _speak_of_a_tenth(served, link, connection)
        for name, shape in regions().items():
            plain, now, past = [], [], []
            for _ in range(ROUNDS):
                started = time.perf_counter()
                found = connection.execute(PLAIN, (shapely.to_wkb(shape, hex=True),)).fetchall()
                plain.append(time.perf_counter() - started)
                seconds, answer = _ask(served, link, "/v1/regions/query", shape)
                now.append(seconds)
                total = sum(one["total"] for one in answer["facilities"].values())
                if total != sum(row[3] for row in found):
                    raise AssertionError(f"{name}: {total} facilities are not those of the query")
                seconds, answer = _ask(served, link, query, shape)
                past.append(seconds)
                if answer["facilities"] != then[name]["facilities"]:
                    raise AssertionError(f"{name}: the past is not what it was")
            slow = statistics.median(plain) * 1000
            for when, taken in (("", now), ("_past", past)):
                fast = statistics.median(taken) * 1000
                lines.append(
                    (f"region_{name}{when}", slow / fast, BASELINE, fast, "ms", slow, "ms")
                )
    return lines


def _ask(
    served: Served, link: http.client.HTTPConnection, path: str, shape: Any
) -> tuple[float, dict[str, Any]]:
    """Seconds, and the answer."""
    body = json.dumps({"geometry": json.loads(shapely.to_geojson(shape))}).encode()
    headers = {"X-API-Key": served.keys["planner"], "Content-Type": "application/json"}
    started = time.perf_counter()
    link.request("POST", path, body, headers)
    answer = link.getresponse()
    found: dict[str, Any] = json.loads(answer.read())
    if answer.status != 200:
        raise AssertionError(f"{answer.status} {found}")
    return time.perf_counter() - started, found


def _speak_of_a_tenth(
    served: Served, link: http.client.HTTPConnection, connection: psycopg.Connection[Any]
) -> None:
    """Every tenth facility is down from now on."""
    ids = [r[0] for r in connection.execute("SELECT facility_id FROM facility WHERE pk % 10 = 0")]
    headers = {"X-API-Key": served.keys["utility"], "Content-Type": "application/json"}
    now = datetime.now(UTC).isoformat()
    for start in range(0, len(ids), BATCH):
        events = [
            {"event_id": f"region-{one}", "facility_id": one, "state": "down", "observed_at": now}
            for one in ids[start : start + BATCH]
        ]
        link.request("POST", "/v1/status", json.dumps(events).encode(), headers)
        answer = link.getresponse()
        receipt = answer.read()
        if answer.status != 200 or json.loads(receipt)["accepted"] != len(events):
            raise AssertionError(f"{answer.status} {receipt[:300]!r}")
