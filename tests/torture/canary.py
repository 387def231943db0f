"""A telephone number nobody has: where it must be read, and everywhere else, where it must not."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any
from uuid import uuid4

import httpx

from tests.api.test_feeds_incidents import incident
from tests.feeds import ago
from tests.torture.injections import described, place
from tests.torture.site import Site
from tests.torture.torture import Torture, row

CANARY = "13912345670"
WRITTEN = (CANARY, "139 1234 5670", "139-1234-5670", "+8613912345670")
READS = {"commander", "admin"}
FORMS = ("geojson", "gpkg", "parquet", "csv", "xlsx")


@row("privacy", "privacy: a canary number in logs, errors, exports, tiles, pages: 0")
def privacy(torture: Torture) -> None:
    site, figures = torture.site(), torture.figures
    ids = _submit(site)
    readers = ("viewer", "planner", "utility", "field-other")
    answers = seen = 0
    paths = [path for path, operation in described(site) if "get" in operation]
    paths += [f"/v1/export/incidents.{one}" for one in FORMS]
    paths += [f"/v1/export/incidents.{one}?reporters=true" for one in FORMS]
    paths += ["/", "/maps/special-equipment-2023", "/ogc/collections/incidents/items?f=html"]
    paths += [
        "/ogc/collections/incidents/items?f=csv",
        "/ogc/collections/incidents/items?f=geojson",
    ]
    paths += ["/ogc/collections/incidents/tiles/WebMercatorQuad/9/407/212", "/metrics"]
    for who in readers:
        for path in paths:
            for url in _named(path, ids):
                answer = site.ask("GET", url, who)
                answers += 1
                found = _told(answer)
                seen += found
                figures.check(not found, f"{who} reads it: {url}")
    for way in (_misuse(site), _misuse_login(site)):
        for answer in way:
            answers += 1
            found = not answer.is_success and _told(answer)
            seen += found
            figures.check(
                not found,
                f"an error tells it: {answer.request.method} {answer.request.url.path[:60]} {answer.text[:200]}",
            )
    logs = 0
    for log in (site.log, site.cluster.log_file):
        text = log.read_text(encoding="utf-8", errors="replace")
        logs += len(text.splitlines())
        for form in WRITTEN:
            figures.check(form not in text, f"{form} in {log.name}")
    right = site.ask("GET", f"/v1/incidents/{ids[0]}", "commander").json()
    figures.check(
        right["properties"]["reporter"]["phone"] == CANARY, "the commander cannot read it"
    )
    sheet = _whole(site.ask("GET", "/v1/export/incidents.csv?reporters=true", "commander"))
    figures.check(CANARY in sheet, "the control, the commander's export, has no number in it")
    figures.own |= {"answers searched": f"{answers:,}", "log lines": f"{logs:,}", "seen": seen}


def _submit(site: Site) -> list[str]:
    """Incidents with the number in every place for one."""
    ids = []
    for number in range(6):
        person = {"name": "李某", "phone": CANARY}
        body = incident(reporter=person)
        if number % 2:
            body["source"] = "12345"
            body["hotline"] = {
                "order_number": f"CQ{uuid4().hex[:10]}",
                "received_at": ago(minutes=8),
                "caller": person,
            }
        site.ask("POST", "/v1/incidents", "commander", json=body)
        ids.append(str(body["incident_id"]))
    other = body | {"kind": "boiler", "reporter": {"name": "李某", "phone": CANARY}}
    site.ask("POST", "/v1/incidents", "commander", json=other)
    table = f"事发时间,设备类型,预案,经度,纬度,报告人,联系电话\n2026-11-21 08:30,电梯,特种设备,106.55,29.55,李某,{CANARY}\n"
    site.ask("POST", "/v1/incidents/import", "commander", files={"file": ("r.csv", table.encode())})
    return ids


def _named(path: str, ids: list[str]) -> list[str]:
    """The path about each of these incidents, or once."""
    filled = place(path, {"in": "query", "name": "none"}, "")[0]
    if "{incident_id}" not in path:
        return [filled]
    return [
        place(path.replace("{incident_id}", one), {"in": "query", "name": "x"}, "")[0]
        for one in ids[:3]
    ]


def _misuse(site: Site) -> list[httpx.Response]:
    """The number where it does not belong, so that the answer is an error."""
    wrong: list[dict[str, Any]] = [
        {"reporter": CANARY},
        {"reporter": {"phone": [CANARY]}},
        {"reporter": {"phone": {"x": CANARY}}},
        {"reporter": {"phone": CANARY * 40}},
        {"occurred_at": CANARY},
        {"kind": CANARY},
        {"position": CANARY},
        {"plan": CANARY},
        {"incident_id": CANARY},
        {CANARY: 1, "facts": {CANARY: 1}},
        {"hotline": {"order_number": 1, "caller": CANARY}},
    ]
    answers = [site.ask("POST", "/v1/incidents", "field", json=incident(**one)) for one in wrong]
    for path in (
        f"/v1/incidents?bbox={CANARY}",
        f"/v1/incidents/{CANARY}",
        f"/v1/export/{CANARY}.csv",
    ):
        answers.append(site.ask("GET", path, "viewer"))
    answers.append(site.ask("GET", f"/v1/incidents?since={CANARY}&at={CANARY}", "viewer"))
    answers.append(site.ask("GET", f"/v1/hotline/{CANARY}", "field"))
    broken = json.dumps(incident(reporter={"phone": CANARY}))[:-3].encode()
    answers.append(site.ask("POST", "/v1/incidents", "field", content=broken))
    table = f"事发时间,设备类型,预案,经度,纬度,联系电话\n{CANARY},{CANARY},{CANARY},{CANARY},1,{CANARY}\n"
    answers.append(
        site.ask(
            "POST",
            "/v1/incidents/import",
            "field",
            files={"file": (f"{CANARY}.csv", b"\0" + table.encode())},
        )
    )
    return answers


def _misuse_login(site: Site) -> list[httpx.Response]:
    forms = ({"username": CANARY, "password": CANARY}, {"username": "field", "password": CANARY})
    return [site.ask("POST", "/v1/token", data=form) for form in forms]


def _told(answer: httpx.Response) -> bool:
    told = _whole(answer)
    return any(form in told for form in WRITTEN)


def _whole(answer: httpx.Response) -> str:
    """The answer's text and headers, of an archive every member."""
    told = json.dumps(dict(answer.headers)) + answer.content.decode("utf-8", "replace")
    if answer.content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            told += "".join(archive.read(n).decode("utf-8", "replace") for n in archive.namelist())
    return told
