"""What a start refuses: settings of PostgreSQL that lie, empty secrets; and what it makes by chance."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

from data.accounts import first_run
from tests.torture.site import Site
from tests.torture.torture import Torture, row

LYING = ("fsync", "full_page_writes", "synchronous_commit")
SECRETS = ("", " ", "secret", "x" * 31)


def _served(site: Site, **environment: str) -> tuple[int | None, str]:
    """How `yutu serve` ended; None when it went on serving."""
    import os
    import subprocess
    import sys

    from tests.torture.site import ROOT, changed_environment

    more = {"YUTU_DATABASE_URL": site.url, "YUTU_PORT": "0", **environment}
    with changed_environment(site.environment | more):
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "serve"],
            cwd=ROOT,
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        told, _ = process.communicate(timeout=45)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.communicate(timeout=30)
        return None, "it serves"
    return process.returncode, told


@row("settings", "settings that lie: fsync, full_page_writes, synchronous_commit off")
def settings(torture: Torture) -> None:
    """Off in the file, for the role, for the database; also with the tests' escape half set."""
    figures = torture.figures
    site = torture.own_site(served=False)
    refused = 0

    def must_refuse(what: str, word: str, **environment: str) -> None:
        nonlocal refused
        figures.count()
        code, told = _served(site, **environment)
        refused += code not in (None, 0)
        figures.check(code not in (None, 0), f"{what}: {told[-200:]}")
        figures.check(word in told, f"{what}: does not name {word}: {told[-300:]}")
        figures.check("Traceback" not in told, f"{what}: a traceback")

    for name in LYING:
        site.restart_database({name: "off"})
        must_refuse(f"{name} off", name)
        must_refuse(f"{name} off, half the escape", name, YUTU_ALLOW_UNSAFE="1")
    site.restart_database({})
    for target in ("ROLE yutu_app", "DATABASE yutu"):
        site.sql(f"ALTER {target} SET synchronous_commit = off")
        must_refuse(f"synchronous_commit off for {target}", "synchronous_commit")
        site.sql(f"ALTER {target} RESET synchronous_commit")
    code, _ = _served(site) if torture.scale >= 0.5 else (None, "")
    figures.check(code is None, "put right again, it does not serve")
    figures.own["refused"] = refused


@row(
    "defaults",
    "no default credentials: random at first run, never recreated; empty secrets refused",
)
def defaults(torture: Torture) -> None:
    figures = torture.figures
    site = torture.own_site(served=False)
    other = torture.own_site(served=False)
    for secret in SECRETS:
        figures.count()
        code, told = _served(site, YUTU_SECRET=secret)
        figures.check(code not in (None, 0), f"secret {secret!r} is taken")
        figures.check("YUTU_SECRET" in told, f"secret {secret!r}: {told[-200:]}")
        figures.check(secret.strip() == "" or secret not in told, "the refusal repeats the secret")
    drawn: list[str] = []
    for one in (site, other):
        path = one.var / "credentials.json"
        figures.check(stat.S_IMODE(path.stat().st_mode) == 0o600, "credentials others may read")
        told_of = json.loads(path.read_text(encoding="utf-8"))
        drawn += [account[kind] for account in told_of.values() for kind in ("password", "api_key")]
        path.unlink()
        figures.count()
        figures.check(not first_run(one.owner, path), "accounts were made a second time")
        figures.check(not path.exists(), "credentials were written a second time")
        now = one.sql("SELECT count(*) FROM account")
        figures.check(now == len(told_of), f"{now} accounts after the second first run")
    figures.check(len(set(drawn)) == len(drawn), "two credentials are the same")
    figures.check(min(map(len, drawn)) >= 20, "a credential is short")
    figures.own |= {"credentials drawn": len(drawn), "shortest": min(map(len, drawn))}
    _secret_of_its_own(torture, site)


def _secret_of_its_own(torture: Torture, site: Site) -> None:
    """`var/secret`: made once, and refused when others may read it."""
    secret: Path = site.var / "secret"
    if not secret.exists():
        secret.write_text("0" * 64 + "\n", encoding="ascii")
    secret.chmod(0o644)
    torture.figures.count()
    began = time.monotonic()
    code, told = _served(site)
    torture.figures.check(code not in (None, 0), "a secret that others may read is taken")
    torture.figures.check(
        "chmod 600" in told, f"after {time.monotonic() - began:.0f} s: {told[-200:]}"
    )
