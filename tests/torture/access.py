"""Who may do what, over the wire: role × district × route, and credentials that do not hold."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from typing import Any, Self
from uuid import uuid4
from xml.etree import ElementTree

import httpx
import jwt

from api.credentials import SESSION_COOKIE
from api.policy import DISTRICTS, OPEN, OWN, POLICY, Rule
from data.accounts import lock_account
from data.tables import ROLES
from tests.api.test_credentials import ATTACKS, claims, unsigned
from tests.api.test_feeds_incidents import incident
from tests.api.test_policy import STREAMS, filled
from tests.feeds import INSIDE, NANAN, YUZHONG, ago
from tests.torture.site import ROOT, Site
from tests.torture.torture import Torture, row

HERE, ELSEWHERE = YUZHONG, NANAN
CITY_ROLES = {"utility"}
PASSING = {"date", "x-request-id", "server-timing"}
REVOKED_WITHIN_S = 1.0


def district_accounts(site: Site) -> dict[tuple[str, str], str]:
    """(role, district) → an account of that role that sees that district only."""
    found = {}
    for role in ROLES:
        for code in (HERE, ELSEWHERE):
            name = f"{role}-{code}"
            if name not in site.keys:
                site.account(name, role, ["*"] if role in CITY_ROLES else [code])
            found[role, code] = name
    return found


@row(
    "matrix",
    "authorization: role × district × route from the policy, elsewhere's ids, the second wall",
)
def matrix(torture: Torture) -> None:
    """Every cell asked, with no credential too; objects of elsewhere answer as nobody's, to the
    byte; with the app's own filter off, and over the tables, by the ordinary tests in a process."""
    site, figures = torture.site(), torture.figures
    accounts = district_accounts(site)
    turn = cells = 0
    for rule in POLICY:
        if rule.path in STREAMS:
            continue
        answer = site.ask(rule.method, filled(rule.path), what="nobody")
        allowed = rule.roles is OPEN
        figures.check((answer.status_code == 401) != allowed or "login" in rule.path or "token" in rule.path, f"nobody: {answer.status_code} {rule}")  # fmt: skip
        for (role, _), name in accounts.items():
            turn += 1
            if torture.scale < 0.5 and turn % 5 != 1:
                continue  # of five cells one in a short run
            cells += 1
            answer = site.ask(rule.method, filled(rule.path), name, what=f"as {role}")
            if allowed or role in (rule.roles or ()):
                if rule.path not in {"/v1/token", "/login"}:
                    figures.check(
                        answer.status_code not in (401, 403, 405),
                        f"{role} is kept out: {answer.status_code} {rule}",
                    )
            else:
                figures.check(
                    answer.status_code == 403, f"{role} gets {answer.status_code}: {rule}"
                )
    hidden = _elsewhere(site, accounts)
    figures.own |= {"cells": cells, "ids of elsewhere": hidden}
    tests, failed = run_tests(torture, "tests/api/test_scope*.py", "tests/data/test_schema.py")
    figures.count(tests)
    figures.check(failed == 0, f"{failed} of {tests} tests of the second wall fail")
    figures.own["second wall"] = f"{tests - failed} of {tests}"


def _elsewhere(site: Site, accounts: dict[tuple[str, str], str]) -> int:
    """An object of elsewhere and one of nobody's answer the same, for each role and each route."""
    there = incident(position=list(INSIDE[ELSEWHERE]), source="12345")
    there["hotline"] = {"order_number": f"CQ{uuid4().hex[:10]}", "received_at": ago(minutes=3)}
    site.ask("POST", "/v1/incidents", "commander", json=there)
    saved = site.ask(
        "POST",
        "/v1/scenarios",
        "planner",
        json={
            "name": "s",
            "changes": [{"adcodes": [ELSEWHERE], "kind": "substation", "state": "down"}],
        },
    )
    theirs = {
        "incident_id": str(there["incident_id"]),
        "order_number": there["hotline"]["order_number"],
        "attachment_id": str(uuid4()),
        "scenario_id": saved.json().get("scenario_id", ""),
    }
    tried = 0
    for rule in POLICY:
        if not any(
            f"{{{name}}}" in rule.path for name in ("incident_id", "order_number", "scenario_id")
        ):
            continue
        for role in rule.roles or ():
            if role == "utility":
                continue
            nobodys = {name: str(uuid4()) for name in theirs}
            nobodys["order_number"] = f"CQ{uuid4().hex[:10]}"
            found = [_shown(site, rule, accounts[role, HERE], ids) for ids in (theirs, nobodys)]
            tried += 1
            site.figures.check(
                found[0] == found[1], f"{role} can tell: {rule} {found[0][0]} {found[1][0]}"
            )
            site.figures.check(found[1][0] in (404, 422, 400), f"nobody's: {found[1][0]} {rule}")
    assert {rule.scope for rule in POLICY} >= {DISTRICTS, OWN}
    return tried


def _shown(site: Site, rule: Rule, who: str, ids: dict[str, str]) -> tuple[int, bytes, Any]:
    how: dict[str, Any] = {}
    if rule.path.endswith("/attachments") and rule.method == "POST":
        how = {
            "files": {"file": ("p.jpg", b"\xff\xd8\xff")},
            "data": {"attachment_id": str(uuid4())},
        }
    elif rule.method == "PATCH":
        shared = (
            {"shared": True} if "scenario" in rule.path else {"state": "verified", "reason": "x"}
        )
        how = {"json": shared, "headers": {"If-Match": '"1"'}}
    elif rule.path.endswith("/told"):
        how = {"json": {"city_office_informed_at": ago(minutes=1)}}
    elif rule.path.endswith(("/merge", "/distinct")):
        member = "into" if rule.path.endswith("/merge") else "other"
        how = {"json": {member: str(uuid4()), "reason": "x"}}
    elif rule.method == "POST":
        how = {"json": {"reason": "x"}}
    answer = site.ask(rule.method, rule.path.format(**ids), who, **how)
    body = answer.content
    for name, value in ids.items():
        body = body.replace(value.encode(), name.encode())
    if "json" in how:
        for value in how["json"].values():
            body = body.replace(str(value).encode(), b"")
    headers = {k: v for k, v in answer.headers.items() if k.lower() not in PASSING}
    return answer.status_code, body, headers


def run_tests(torture: Torture, *patterns: str, more: tuple[str, ...] = ()) -> tuple[int, int]:
    """Run tests of the ordinary suite in a process of their own; how many, and how many failed."""
    files = sorted(
        str(one.relative_to(ROOT)) for p in patterns for one in ROOT.glob(p.partition("::")[0])
    )
    names = [p for p in patterns if "::" in p]
    site_folder = torture.folder()
    report = site_folder / f"tests-{uuid4().hex[:6]}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(names or files)]
    done = subprocess.run(
        [*command, f"--junitxml={report}", *more],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    if not report.exists():
        torture.figures.violate(f"pytest: {(done.stdout + done.stderr)[-300:]}")
        return 0, 1
    found: Counter[str] = Counter()
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        for name in ("tests", "failures", "errors", "skipped"):
            found[name] += int(suite.get(name, 0))
    failed = found["failures"] + found["errors"]
    if failed:
        for line in done.stdout.splitlines():
            if line.startswith(("FAILED", "ERROR")):
                torture.figures.told.append(line[:300])
    return found["tests"] - found["skipped"], failed


ROUTES = ("/v1/session", "/v1/situation", "/v1/incidents", "/openapi.json", "/metrics")


@row("tokens", "tokens: none, HS/RS confusion, kid path, expired, revoked → 401")
def tokens(torture: Torture) -> None:
    """Each forged token at several routes, as bearer and as session cookie; revoked ones end within
    a second in both workers."""
    site, figures = torture.site(), torture.figures
    secret = (site.var / "secret").read_text(encoding="utf-8").strip()
    good = jwt.encode(claims(), secret, "HS256")
    control = site.ask("GET", "/v1/session", headers={"Authorization": f"Bearer {good}"})
    figures.check(control.status_code == 200, "the control, a good token, is refused")
    forged = {name: make(secret) for name, make in ATTACKS.items()}
    forged |= {
        f"kid {kid}": jwt.encode(claims(), "\0", "HS256", headers={"kid": kid})
        for kid in ("/dev/null", "../../etc/passwd", "' UNION SELECT '", "http://127.0.0.1/k")
    }
    public = unsigned({"alg": "RS256", "typ": "JWT"}, claims())
    forged |= {f"{alg} with no key": public.replace(public.split(".")[0], unsigned({"alg": alg}, {}).split(".")[0]) + "AAAA" for alg in ("RS256", "ES256", "PS256", "HS384")}  # fmt: skip
    forged["jwk in the header"] = jwt.encode(claims(), "k" * 64, "HS256", headers={"jwk": {"kty": "oct", "k": "a2tr"}})  # fmt: skip
    for name, token in forged.items():
        for path in ROUTES:
            for header, value in (("Authorization", f"Bearer {token}"), ("Cookie", f"{SESSION_COOKIE}={token}")):  # fmt: skip
                if header == "Cookie" and name == "session as bearer":
                    continue  # there it is what it says
                answer = site.ask(
                    "GET", path, headers={header: value.encode("latin-1", "replace")}, what=name
                )
                figures.check(
                    answer.status_code == 401, f"{answer.status_code}: {name} {header} {path}"
                )
                figures.check(token not in answer.text, f"echoes: {name}")
    slowest = _revoked(torture, site)
    figures.own |= {"forged": len(forged), "revoked ends after": f"{slowest * 1000:.0f} ms"}


class Listening:
    """A stream that was let in, and when the server ended it."""

    def __init__(self, site: Site, headers: dict[str, str]) -> None:
        self._url, self._headers = f"{site.server.url}/v1/situation/stream", headers
        self._let_in = threading.Event()
        self._ended_at: float | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._let_in.wait(30), "no stream was let in"
        return self

    def __exit__(self, *_: object) -> None:
        """It goes on by itself until the server ends it."""

    def _read(self) -> None:
        with httpx.stream("GET", self._url, headers=self._headers, timeout=30) as answer:
            for _ in answer.iter_lines():
                self._let_in.set()
        self._ended_at = time.monotonic()

    def ended_at(self) -> float:
        """By `time.monotonic`; endless when it is still open."""
        self._thread.join(REVOKED_WITHIN_S)
        return float("inf") if self._ended_at is None else self._ended_at


def _revoked(torture: Torture, site: Site) -> float:
    """The longest until a locked account was refused twenty times running, on whichever worker, and
    a stream it had open was ended."""
    slowest = 0.0
    for _ in range(torture.count(10, 2)):
        name = f"short-{uuid4().hex[:6]}"
        headers = site.account(name, "viewer", ["*"])
        site.ask("GET", "/v1/session", headers=headers)
        form = {"username": name, "password": site.credentials[name]["password"]}
        token = site.ask("POST", "/v1/token", data=form).json()["access_token"]
        by_token = {"Authorization": f"Bearer {token}"}
        with Listening(site, headers) as by_stream, site.owner.begin() as connection:
            lock_account(connection, name)
        began = time.monotonic()
        last_let_in = began
        while time.monotonic() - began < REVOKED_WITHIN_S * torture.factor() + 1:
            for one in (headers, by_token):
                if site.ask("GET", "/v1/session", headers=one).is_success:
                    last_let_in = time.monotonic()
            time.sleep(0.02)
        slowest = max(slowest, last_let_in - began, by_stream.ended_at() - began)
    limit_s = REVOKED_WITHIN_S * torture.factor()
    site.figures.check(slowest < limit_s, f"let in {slowest:.2f} s after it was locked")
    return slowest
