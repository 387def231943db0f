"""Fuzzing of every parser: valid bodies, files and queries, mutated by a seeded chance."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np

from api.routes.cot import EXAMPLE as TEAM
from tests.api.test_feeds_incidents import incident
from tests.data.incident_files.generate import good
from tests.torture.bodies import json_routes
from tests.torture.injections import described, place
from tests.torture.site import Site
from tests.torture.torture import Torture, row

LASTS_S = 300.0
THREADS = 4
WITHIN_S = 8.0
TOKENS = [
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"NaN", b"1e999", b"-0", b"null", b"{}", b"[]", b'"', b"\\u0000",
    b"\\ud800", b"<![CDATA[", b"<!DOCTYPE x [<!ENTITY a 'b'>]>", b"&a;", b"]]>", b"%s", b"../", b"PK\3\4",
    b"\r\n\r\n", b"99999999999999999999", b"-1", b"1" * 300, b"=1+1", b"\xf0\x9f\x98\x80", b"Polygon", b"\t",
]  # fmt: skip
ODD: list[Any] = [
    None, True, -1, 0, 2**53, 2**63 - 1, -(2**63), 1e308, -1e-308, "", " ", "\u202e", "x" * 5_000, [], {}, [[]],
    [None], {"": {}}, "NaN", "2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59+23:59", "500103", [106.5, 29.5],
    [[[]]], "١٢٣", "=1+1", {"type": "Point", "coordinates": [0, 0]}, "\ufeff", "a/b", [1] * 2_000,
]  # fmt: skip


@dataclass(frozen=True)
class Parser:
    """A door and what goes through it when it is in order."""

    name: str
    seeds: list[Any]
    send: Callable[[Any], Any]
    structured: bool


@row("fuzz", "fuzzing of every parser: seeded mutations of valid bodies, files and parameters")
def fuzz(torture: Torture) -> None:
    site, figures = torture.site(), torture.figures
    parsers = _parsers(torture, site)
    ends_at = time.monotonic() + torture.seconds(LASTS_S, 3)
    statuses: Counter[int] = Counter()
    slowest = [0.0]

    def work(number: int) -> None:
        rng = np.random.default_rng([torture.seed, 77, number])
        turn = number
        while time.monotonic() < ends_at:
            parser = parsers[turn % len(parsers)]
            turn += THREADS if len(parsers) % THREADS else 1
            seed = parser.seeds[rng.integers(len(parser.seeds))]
            sent = _grown(seed, rng) if parser.structured and rng.random() < 0.6 else seed
            if parser.structured:
                sent = json.dumps(sent).encode()
            if not parser.structured or rng.random() < 0.5:
                sent = mutated(sent, rng)
            began = time.monotonic()
            answer = parser.send(sent)
            took_s = time.monotonic() - began
            statuses[answer.status_code // 100] += 1
            slowest[0] = max(slowest[0], took_s)
            if answer.status_code >= 500 and answer.status_code not in (503, 507):
                figures.violate(f"{parser.name} with {sent[:300]!r}")
            if took_s > WITHIN_S * torture.factor():
                figures.violate(f"{took_s:.1f} s: {parser.name} with {sent[:200]!r}")

    with ThreadPoolExecutor(THREADS) as pool:
        for job in [pool.submit(work, number) for number in range(THREADS)]:
            job.result()
    log = site.log.read_text(encoding="utf-8", errors="replace")
    figures.check("Traceback" not in log, "a traceback in the log")
    figures.own |= {
        "parsers": len(parsers),
        "2xx": statuses[2],
        "4xx": statuses[4],
        "503": statuses[5],
    }
    figures.own["slowest"] = f"{slowest[0]:.1f} s"
    if torture.scale >= 0.1:
        site.verify()


def mutated(seed: bytes, rng: np.random.Generator) -> bytes:
    """A few random edits: bits, cuts, repeats, moves, tokens."""
    body = bytearray(seed)
    for _ in range(int(rng.integers(1, 6))):
        if not body:
            return bytes(rng.integers(0, 256, 20, dtype=np.uint8))
        at = int(rng.integers(len(body)))
        length = int(rng.integers(1, 64))
        match int(rng.integers(7)):
            case 0:
                body[at] ^= 1 << int(rng.integers(8))
            case 1:
                del body[at : at + length]
            case 2:
                body[at:at] = body[at : at + length] * int(rng.integers(1, 8))
            case 3:
                body[at:at] = TOKENS[rng.integers(len(TOKENS))]
            case 4:
                token = TOKENS[rng.integers(len(TOKENS))]
                body[at : at + len(token)] = token
            case 5:
                del body[at:]
            case 6:
                other = int(rng.integers(len(body)))
                body[at:at] = body[other : other + length]
    return bytes(body)


def _grown(value: Any, rng: np.random.Generator) -> Any:
    """A copy with some leaves, members or names exchanged for odd ones."""
    if rng.random() < 0.06:
        return ODD[rng.integers(len(ODD))]
    if isinstance(value, dict):
        grown = {}
        for name, one in value.items():
            draw = rng.random()
            if draw < 0.04:
                continue
            grown[name if draw > 0.07 else f"{name}x"] = _grown(one, rng)
        return grown
    if isinstance(value, list):
        grown_list = [_grown(one, rng) for one in value]
        return grown_list * 3 if rng.random() < 0.03 else grown_list
    return ODD[rng.integers(len(ODD))] if rng.random() < 0.08 else value


def _parsers(torture: Torture, site: Site) -> list[Parser]:
    paths = site.ask("GET", "/openapi.json", "admin").json()["paths"]
    parsers = []
    for rule, path, who in json_routes():
        seeds = _examples(paths.get(rule.path, {}).get(rule.method.lower(), {}))
        seeds += [incident()] if rule.path == "/v1/incidents" else []
        kind = "application/geo+json" if rule.path.endswith("outages") else "application/json"
        parsers.append(_json_parser(site, rule.method, path, who, kind, seeds or [{"reason": "x"}]))
    body = incident()
    site.ask("POST", "/v1/incidents", "commander", json=body)
    files = {one.name: one.read_bytes() for one in good(torture.folder() / "good").values()}
    small = {name: content for name, content in files.items() if len(content) < 400_000}
    table = b"facility_id,name,kind,operator,network,load_kw,customers,lon,lat,crs\nX1,\xe7\xab\x99,substation,grid,,12,3,106.5,29.5,WGS84\nX2,b,base_station,mobile,5G,1,2,106.6,29.6,WGS84\n"
    returns = b"adcode,total,down,power\n500103,1200,130,110\n500106,300,1,0\n"
    said = "?return_id=r1&operator=grid&kind=substation&as_of=2026-11-21T08:00:00%2B08:00"
    for name, content in {**small, "facilities.csv": table, "returns.csv": returns}.items():
        parsers.append(
            _file_parser(
                site, "/v1/incidents/import?partial=true&dry_run=true", "commander", name, content
            )
        )
        if name.endswith((".csv", ".xlsx", ".geojson", ".gpkg", ".kml")):
            parsers.append(
                _file_parser(site, "/v1/facilities/import?partial=true", "planner", name, content)
            )
        if name.endswith((".csv", ".xlsx")):
            parsers.append(_file_parser(site, f"/v1/returns{said}", "utility", name, content))
    photos = f"/v1/incidents/{body['incident_id']}/attachments"
    for name, content in files.items():
        if name.endswith((".jpg", ".jpeg", ".heic", ".png", ".pdf")):
            parsers.append(_file_parser(site, photos, "commander", name, content))
    parsers.append(_raw_parser(site, "/v1/cot", "field", "application/xml", TEAM.encode()))
    multipart = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        + returns
        + b"\r\n--b--\r\n"
    )
    for path, who in (
        ("/v1/returns", "utility"),
        ("/v1/incidents/import", "field"),
        ("/v1/facilities/import", "planner"),
        (photos, "commander"),
    ):
        parsers.append(_raw_parser(site, path, who, "multipart/form-data; boundary=b", multipart))
    parsers.append(
        _raw_parser(
            site,
            "/v1/token",
            None,
            "application/x-www-form-urlencoded",
            b"username=a&password=b&grant_type=password",
        )
    )
    parsers += _query_parsers(site)
    return parsers


def _examples(operation: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    for content in operation.get("requestBody", {}).get("content", {}).values():
        found += [content["example"]] if "example" in content else []
        found += [one["value"] for one in content.get("examples", {}).values()]
    return [one for one in found if isinstance(one, dict | list)]


def _json_parser(
    site: Site, method: str, path: str, who: str, kind: str, seeds: list[Any]
) -> Parser:
    def send(body: bytes) -> Any:
        headers = {"Content-Type": kind, "If-Match": '"1"'}
        return site.ask(method, path, who, content=body, headers=headers, what="fuzz")

    return Parser(f"{method} {path}", seeds, send, True)


def _raw_parser(site: Site, path: str, who: str | None, kind: str, seed: bytes) -> Parser:
    def send(body: bytes) -> Any:
        return site.ask(
            "POST", path, who, content=body, headers={"Content-Type": kind}, what="fuzz"
        )

    return Parser(f"POST {path} {kind}", [seed], send, False)


def _file_parser(site: Site, path: str, who: str, name: str, seed: bytes) -> Parser:
    def send(body: bytes) -> Any:
        said = {"attachment_id": str(uuid4())} if "attachments" in path else {}
        return site.ask(
            "POST", path, who, files={"file": (name, body)}, data=said, what=f"fuzz {name}"
        )

    return Parser(f"POST {path} {name}", [seed], send, False)


def _query_parsers(site: Site) -> list[Parser]:
    """One for each GET route: all its parameters drawn from what mutation makes of usual ones."""
    usual = b"106.4,29.4,106.7,29.7|2026-11-21T08:00:00+08:00|500103|facility_id='x' AND load_kw>5|substation|json|EPSG:4546|10|true|zh"
    parsers = []
    for path, operation in described(site):
        parameters = [
            one for one in operation.get("get", {}).get("parameters", []) if one["in"] == "query"
        ]
        if not parameters:
            continue
        names = [one["name"] for one in parameters]

        def send(body: bytes, path: str = path, names: list[str] = names) -> Any:
            values = body.decode("utf-8", "replace").split("|")
            query = {
                name: values[(i * 7 + len(body)) % len(values)] for i, name in enumerate(names)
            }
            picked = dict(list(query.items())[len(body) % len(query) :][:3])
            url = place(path, {"in": "query", "name": "x"}, "")[0]
            return site.ask(
                "GET",
                url,
                "admin",
                params=picked,
                headers={"Accept": "application/json"},
                what=str(picked)[:200],
            )

        parsers.append(Parser(f"GET {path}", [usual], send, False))
    return parsers
