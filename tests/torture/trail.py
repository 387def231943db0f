"""The audit trail, altered by a superuser, and the walls taken away one by one."""

from __future__ import annotations

import re

from sqlalchemy import text

from tests.api.test_feeds_incidents import incident
from tests.test_mutations import MUTATIONS
from tests.torture.access import run_tests
from tests.torture.site import ROOT, Site
from tests.torture.torture import Torture, row

#: What a superuser might change in row `:n`.
ALTERATIONS = {
    "when": "UPDATE audit SET at = at - interval '1 hour' WHERE number = :n",
    "act": "UPDATE audit SET act = act || 'x' WHERE number = :n",
    "outcome": "UPDATE audit SET outcome = CASE outcome WHEN 'done' THEN 'refused' ELSE 'done' END"
    " WHERE number = :n",
    "account": "UPDATE audit SET account = 'nobody' WHERE number = :n",
    "address": "UPDATE audit SET address = '192.0.2.7' WHERE number = :n",
    "means": "UPDATE audit SET means = means || 'x' WHERE number = :n",
    "subject": "UPDATE audit SET subject = 'another' WHERE number = :n",
    "detail": "UPDATE audit SET detail = detail || ' ' WHERE number = :n",
    "link": "UPDATE audit SET previous_sha256 = sha256 WHERE number = :n",
    "hash": "UPDATE audit SET sha256 = set_byte(sha256, 0, 255 - get_byte(sha256, 0)) WHERE number = :n",
    "removed": "DELETE FROM audit WHERE number = :n",
    "put in": "INSERT INTO audit SELECT number + 1000000, at, act, outcome, account, address, means,"
    " subject, detail, previous_sha256, sha256 FROM audit WHERE number = :n",
    "exchanged": "",  # in three steps
}


@row("audit", "audit: INSERT-only role, hash chain; a row altered as superuser is named")
def audit(torture: Torture) -> None:
    """A trail of several kinds of acts; each alteration as superuser with the triggers off."""
    figures = torture.figures
    site = torture.own_site()
    for number in range(torture.count(20, 5)):
        site.ask("POST", "/v1/incidents", "commander", json=incident())
        said = {"reason": f"x{number}", "facts": {}}
        site.ask("PUT", "/v1/plans/communications-2024/facts", "commander", json=said)
        site.ask("GET", "/v1/export/incidents.csv", "commander")
        if number < 3:
            site.ask("POST", "/v1/token", data={"username": "viewer", "password": "wrong"})
    site.sql("CREATE TABLE audit_kept AS SELECT * FROM audit")
    rows = site.sql("SELECT count(*) FROM audit")
    figures.check(rows >= 5, f"only {rows} rows were written")
    middle = site.sql("SELECT number FROM audit ORDER BY number OFFSET :o LIMIT 1", o=rows // 2)
    clean = site.yutu("audit", "verify")
    figures.check(clean.returncode == 0, f"untouched: {(clean.stdout + clean.stderr)[-300:]}")
    named = 0
    for what, statement in ALTERATIONS.items():
        figures.count()
        if what == "exchanged":
            _as_superuser(site, "UPDATE audit SET number = -5 WHERE number = :n", middle)
            _as_superuser(site, "UPDATE audit SET number = :n WHERE number = :n + 1", middle)
            _as_superuser(site, "UPDATE audit SET number = :n + 1 WHERE number = -5", middle)
        else:
            _as_superuser(site, statement, middle)
        done = site.yutu("audit", "verify")
        told = done.stdout + done.stderr
        places = [str(middle), str(middle + 1), str(middle + 1_000_000)]
        seen = done.returncode != 0 and any(re.search(rf"\b{one}\b", told) for one in places)
        figures.check(seen, f"{what}: {done.returncode} {told[-200:]}")
        named += seen
        _as_superuser(site, "DELETE FROM audit", middle)
        _as_superuser(site, "INSERT INTO audit SELECT * FROM audit_kept", middle)
    again = site.yutu("audit", "verify")
    figures.check(again.returncode == 0, f"put back: {(again.stdout + again.stderr)[-200:]}")
    may = site.sql(
        "SELECT string_agg(privilege_type, ', ') FROM information_schema.role_table_grants"
        " WHERE grantee IN ('yutu_app', 'yutu_reader', 'PUBLIC') AND table_name = 'audit'"
        " AND privilege_type <> 'SELECT'"
    )
    figures.check(may is None, f"the API's role may {may}")
    figures.own |= {"rows": rows, "alterations": len(ALTERATIONS), "named": named}


def _as_superuser(site: Site, statement: str, number: int) -> None:
    """With the triggers and the checks that can be switched off switched off."""
    with site.owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("ALTER TABLE audit DROP CONSTRAINT IF EXISTS ck_audit_number"))
        connection.execute(text(statement), {"n": number} if ":n" in statement else {})


@row("mutation", "the check itself: each wall taken away turns its named test red")
def mutation(torture: Torture) -> None:
    """Ten minutes by itself: run when it alone is asked for; else that each is still found."""
    figures = torture.figures
    figures.count(len(MUTATIONS))
    for one in MUTATIONS:
        words = (ROOT / one.file).read_text(encoding="utf-8").count(one.words)
        figures.check(words == 1, f"{one.what}: its words stand {words} times in {one.file}")
    if torture.alone:
        tests, failed = run_tests(torture, "tests/test_mutations.py", more=("-m", "mutation"))
        figures.check(failed == 0, f"{failed} of {tests}")
        figures.own |= {"taken away": len(MUTATIONS), "red": tests - failed - 1}
    else:
        told = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
        figures.own["last `make mutations`"] = " ".join(
            re.findall(r"Run on ([^.]+)\.", told)[:1] or ["not told"]
        )
