"""The same thing many times, many edits of one thing, and one log in every order."""

from __future__ import annotations

import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
from sqlalchemy import text

from tests.api.test_feeds_incidents import incident
from tests.data.stored import at
from tests.torture.site import FACILITIES, Site
from tests.torture.torture import Torture, row

IDS, POSTS, THREADS = 40, 50, 40
EDITS = 100
RACES = 5
FUTURE_H = 6


def _sent(site: Site, method: str, path: str, who: str, **more: Any) -> httpx.Response:
    """A service that is busy is asked again, as every client does."""
    for _ in range(60):
        answer = site.ask(method, path, who, **more)
        if answer.status_code != 503:
            break
    return answer


@row("duplicates", "duplicate and retried submissions: 40 ids × 50 parallel × 2 workers")
def duplicates(torture: Torture) -> None:
    site, figures = torture.site(), torture.figures
    ids, posts = torture.count(IDS, 8), torture.count(POSTS, 10)
    order = torture.rng.permutation(ids * posts) % ids
    before = site.sql("SELECT count(*) FROM incident")
    bodies = [incident() for _ in range(ids)]
    with ThreadPoolExecutor(THREADS) as pool:
        statuses = Counter(
            pool.map(
                lambda i: _sent(site, "POST", "/v1/incidents", "field", json=bodies[i]).status_code,
                order,
            )
        )
        figures.check(statuses == {201: ids, 200: ids * (posts - 1)}, f"answers: {statuses}")
        rows = site.sql("SELECT count(*) FROM incident") - before
        figures.check(rows == ids, f"{rows} rows of {ids} ids")
        figures.lost = max(0, ids - rows)
        other = [body | {"facts": {"deaths": 3}} for body in bodies]
        conflicts = Counter(
            pool.map(
                lambda body: _sent(site, "POST", "/v1/incidents", "field", json=body).status_code,
                other,
            )
        )
    figures.check(conflicts == {409: ids}, f"other bodies: {conflicts}")
    kept = [
        site.ask("GET", f"/v1/incidents/{body['incident_id']}", "commander").json()
        for body in bodies
    ]
    wrong = sum(one["properties"]["facts"].get("deaths") is not None for one in kept)
    figures.check(wrong == 0, f"{wrong} overwritten by another body")
    figures.own |= {"201s": statuses[201], "200s": statuses[200], "rows": rows}
    figures.own["other body"] = f"{conflicts[409]} × 409"


@row("edit-race", "100 parallel PATCHes on one ETag: one 200, 99 × 412")
def edit_race(torture: Torture) -> None:
    site, figures = torture.site(), torture.figures
    races, edits = torture.count(RACES), torture.count(EDITS, 30)
    totals: Counter[int] = Counter()
    for _ in range(races):
        body = incident()
        place = f"/v1/incidents/{body['incident_id']}"
        tag = _sent(site, "POST", "/v1/incidents", "commander", json=body).headers["etag"]

        def edit(number: int, place: str = place, tag: str = tag) -> tuple[int, int]:
            change = {"facts": {"people_stranded": number + 1}, "reason": f"{number}"}
            answer = _sent(
                site, "PATCH", place, "commander", json=change, headers={"If-Match": tag}
            )
            return answer.status_code, number + 1

        with ThreadPoolExecutor(THREADS) as pool:
            answers = list(pool.map(edit, range(edits)))
        found = Counter(status for status, _ in answers)
        totals += found
        figures.check(found == {200: 1, 412: edits - 1}, f"answers: {found}")
        shown = site.ask("GET", place, "commander").json()["properties"]
        won = {people for status, people in answers if status == 200}
        figures.check(shown["facts"]["people_stranded"] in won, "what won is not what is shown")
        figures.check(shown["version"] == 2, f"version {shown['version']}")
    figures.own |= {"races": races, "200s": totals[200], "412s": totals[412]}


@row(
    "order", "late, out-of-order, skewed events: every permutation of a log ends in the same state"
)
def order(torture: Torture) -> None:
    """Five events of one facility, two of one second, in all 120 orders, each order on a facility of
    its own; and five revisions of an outage in as many. A future event masks nothing."""
    site, figures = torture.site(), torture.figures
    tied = at(30)
    log = [("down", at(10)), ("up", at(20)), ("degraded", tied), ("down", tied)]
    log.append(("up", (datetime.now(UTC) + timedelta(hours=FUTURE_H)).isoformat()))
    orders = list(itertools.permutations(range(len(log))))[:: 1 if torture.scale >= 1 else 10]
    prefix = uuid4().hex[:8]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: _tell(site, log, *one, prefix), enumerate(orders)))
    with site.owner.connect() as connection:
        states = Counter(
            connection.execute(
                text(
                    "SELECT s.state, s.observed_at::text, right(s.event_id, 1) FROM facility_state s"
                    " JOIN facility f ON f.pk = s.facility_pk WHERE s.event_id LIKE :p"
                ),
                {"p": f"{prefix}-%"},
            ).tuples()
        )
    figures.check(len(states) == 1, f"ends differ: {states}")
    figures.check(sum(states.values()) == len(orders), f"{sum(states.values())} ends")
    figures.check("4" not in {key[2] for key in states}, "a future event masks what is known")
    kept = site.sql("SELECT count(*) FROM status_log WHERE event_id LIKE :p", p=f"{prefix}-%")
    figures.lost = len(orders) * len(log) - kept
    revisions = list(itertools.permutations(range(1, 6)))[:: 1 if torture.scale >= 1 else 10]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: _revise(site, *one, prefix), enumerate(revisions)))
    with site.owner.connect() as connection:
        customers = Counter(
            connection.execute(
                text(
                    "SELECT DISTINCT ON (outage_id) customers_out FROM outage"
                    " WHERE outage_id LIKE :p ORDER BY outage_id, revision DESC"
                ),
                {"p": f"{prefix}-%"},
            ).scalars()
        )
    figures.check(customers == {50: len(revisions)}, f"outages end as {customers}")
    figures.own |= {"orders of events": len(orders), "ends": len(states)}
    figures.own["orders of revisions"] = len(revisions)


def _tell(
    site: Site, log: list[tuple[str, str]], number: int, places: tuple[int, ...], prefix: str
) -> None:
    for place in places:
        state, when = log[place]
        event = {
            "event_id": f"{prefix}-{number}-{place}",
            "facility_id": f"F{FACILITIES - 1 - number}",
        }
        event |= {"state": state, "observed_at": when}
        answer = _sent(site, "POST", "/v1/status", "utility", json=[event])
        site.figures.check(answer.is_success and answer.json()["accepted"] == 1, answer.text[:200])


def _revise(site: Site, number: int, revisions: tuple[int, ...], prefix: str) -> None:
    for revision in revisions:
        said = {"outage_id": f"{prefix}-{number}", "revision": revision, "facility_ids": []}
        said |= {"load_shed_kw": 10, "customers_out": 10 * revision, "started_at": at(5)}
        square = [[106.54, 29.55], [106.6, 29.55], [106.6, 29.58], [106.54, 29.58], [106.54, 29.55]]
        body = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square]}}
        answer = _sent(site, "POST", "/v1/outages", "utility", json=body | {"properties": said})
        site.figures.check(answer.status_code == 201, answer.text[:200])
