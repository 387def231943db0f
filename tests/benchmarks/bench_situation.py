"""How much faster the situation is read than counted.

The baseline is the query a careful author writes for the same figures: facilities joined with
their states and the districts in force, grouped by district, kind and state.
"""

from __future__ import annotations

import http.client
import statistics
import time

import psycopg

from tests.benchmarks.bench_assign import Line
from tests.benchmarks.served import Served

BASELINE = "joined GROUP BY"
ROUNDS = 5
READS = 200

GROUP_BY = """
SELECT d.adcode, f.kind, s.state, count(*), sum(f.load_kw), sum(f.customers)
FROM facility f
JOIN facility_state s ON s.facility_pk = f.pk
JOIN placement_division d ON d.placement_id = f.placement_id
JOIN division_version v ON v.id = d.version_id
WHERE v.valid_to IS NULL AND f.retired_at IS NULL
GROUP BY d.adcode, f.kind, s.state
"""
STORED = "SELECT etag, body FROM situation_bytes WHERE lang = 'zh' ORDER BY sequence DESC LIMIT 1"


def run(served: Served) -> list[Line]:
    """Medians over rounds in which the three ways take turns."""
    grouped, stored, over_http = [], [], []
    link = http.client.HTTPConnection("127.0.0.1", served.port)
    headers = {"X-API-Key": served.keys["viewer"]}
    with psycopg.connect(served.dsn, autocommit=True) as connection:
        connection.execute("ANALYZE")
        for _ in range(ROUNDS):
            started = time.perf_counter()
            connection.execute(GROUP_BY).fetchall()
            grouped.append(time.perf_counter() - started)
            for _ in range(READS):
                started = time.perf_counter()
                connection.execute(STORED, prepare=True).fetchone()
                stored.append(time.perf_counter() - started)
            for _ in range(READS):
                started = time.perf_counter()
                link.request("GET", "/v1/situation", headers=headers)
                answer = link.getresponse()
                if answer.status != 200 or len(answer.read()) < 1000:
                    raise AssertionError(f"the situation was not read: {answer.status}")
                over_http.append(time.perf_counter() - started)
    slow = statistics.median(grouped) * 1000
    lines = []
    for name, seconds in (("in_process", stored), ("over_http", over_http)):
        ours = statistics.median(seconds) * 1000
        lines.append((f"situation_read_{name}", slow / ours, BASELINE, ours, "ms", slow, "ms"))
    return lines
