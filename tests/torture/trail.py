"""The audit trail, altered by a superuser, and the walls taken away one by one."""

from __future__ import annotations

import re

from sqlalchemy import text

from tests.api.test_feeds_incidents import incident
from tests.test_mutations import MUTATIONS
from tests.torture.access import run_tests
from tests.torture.site import ROOT, Site
from tests.torture.torture import Torture, row


@row("audit", "audit: INSERT-only role, hash chain; a row altered as superuser is named")
def audit(torture: Torture) -> None:
    figures = torture.figures
    if not (ROOT / "api" / "commands" / "audit.py").exists():
        figures.own["not tried"] = "there is no audit trail yet"
        return
    site = torture.own_site()
    for _ in range(torture.count(20, 5)):
        site.ask("POST", "/v1/incidents", "commander", json=incident())
        site.ask("PUT", "/v1/plans/communications-2024/facts", "commander", json={"reason": "x"})
        site.ask("POST", "/v1/token", data={"username": "viewer", "password": "wrong"})
    table, columns = _table(site)
    rows = site.sql(f"SELECT count(*) FROM {table}")
    figures.check(rows > 0, "nothing was written down")
    clean = site.yutu("audit", "verify")
    figures.check(clean.returncode == 0, f"untouched: {(clean.stdout + clean.stderr)[-300:]}")
    named = tried = 0
    for column in columns:
        tried += 1
        named += _altered(torture, site, table, column)
    tried += 1
    named += _removed(torture, site, table)
    figures.count(tried)
    kept = site.sql(
        "SELECT count(*) FROM information_schema.role_table_grants WHERE grantee = 'yutu_app'"
        " AND table_name = :t AND privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE')",
        t=table,
    )
    figures.check(kept == 0, "the API's role may change or delete")
    figures.own |= {"rows": rows, "alterations": tried, "named": named}


def _table(site: Site) -> tuple[str, list[str]]:
    """The trail's table and its columns of text."""
    with site.owner.connect() as connection:
        tables = connection.execute(
            text(
                "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public'"
                " AND column_name = 'act' AND table_name LIKE 'audit%'"
            )
        ).scalars()
        table = str(next(iter(tables)))
        columns = connection.execute(
            text(
                "SELECT column_name FROM information_schema.columns WHERE table_name = :t"
                " AND data_type IN ('text', 'character varying')"
            ),
            {"t": table},
        ).scalars()
        return table, [str(one) for one in columns]


def _unguarded(site: Site, statement: str) -> None:
    """As a superuser who has also switched the triggers off."""
    with site.owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(statement))


def _altered(torture: Torture, site: Site, table: str, column: str) -> bool:
    """One cell of one row changed, looked for, put back."""
    row_id, value = _middle(site, table, column)
    if row_id is None:
        return True
    with site.owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(
            text(f"UPDATE {table} SET {column} = {column} || 'x' WHERE ctid = CAST(:c AS tid)"),
            {"c": row_id},
        )
    done = site.yutu("audit", "verify")
    found = done.returncode != 0 and bool(re.search(r"\d", done.stdout + done.stderr))
    torture.figures.check(found, f"{column} altered: {(done.stdout + done.stderr)[-200:]}")
    with site.owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(
            text(f"UPDATE {table} SET {column} = :v WHERE {column} = CAST(:v AS text) || 'x'"),
            {"v": value},
        )
    return found


def _middle(site: Site, table: str, column: str) -> tuple[str | None, str | None]:
    with site.owner.connect() as connection:
        found = connection.execute(
            text(
                f"SELECT ctid::text, {column} FROM {table} WHERE {column} IS NOT NULL OFFSET 3 LIMIT 1"
            )
        ).first()
    return (None, None) if found is None else (str(found[0]), str(found[1]))


def _removed(torture: Torture, site: Site, table: str) -> bool:
    row_id, _ = _middle(site, table, "act")
    _unguarded(site, f"DELETE FROM {table} WHERE ctid = '{row_id}'")
    done = site.yutu("audit", "verify")
    torture.figures.check(done.returncode != 0, "a row taken out is not missed")
    return done.returncode != 0


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
