"""What people and programs do leaves rows in the audit trail, without what they typed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from api import audit_notes
from api.cli import app as cli
from data.accounts import create_account
from data.audit import Origin, record
from data.audit_chain import check_chain
from data.audit_tally import KINDS_MAX, AuditTally, Seen
from data.database import app_engine
from tests.api.conftest import Credentials, assert_problem
from tests.api.test_credentials import sign_in
from tests.data.stored import bring, inventory
from tests.feeds import YUZHONG, incident

Key = Callable[[str], dict[str, str]]
Shell = Callable[..., str]
TELEPHONE = "13912345678"
TYPED = "S3cret-typed-as-name"
PERSONAL = {
    "description": f"ring {TELEPHONE}",
    "reporter": {"name": "王某", "phone": TELEPHONE},
}


def rows(owner: Engine, act: str | None = None) -> list[dict[str, Any]]:
    """Oldest first."""
    with owner.connect() as connection:
        found = connection.execute(text("SELECT * FROM audit ORDER BY number"))
        every = [dict(row._mapping) | {"detail": json.loads(row.detail)} for row in found]
    return [row for row in every if act in (None, row["act"])]


def told(
    owner: Engine, true: Callable[[dict[str, Any]], bool], within_s: float = 8.0
) -> dict[str, Any]:
    """The row for which that holds, once it is there."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = [row for row in rows(owner) if true(row)]
        if found:
            return found[-1]
        time.sleep(0.1)
    raise AssertionError("no such row was written")


@pytest.fixture
def shell(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("YUTU_DATABASE_URL", database_url)

    def run(*words: str, code: int = 0, stdin: str = "") -> str:
        found = CliRunner().invoke(cli, list(words), input=stdin)
        assert found.exit_code == code, found.output
        return found.output

    return run


def test_signing_in_and_out_is_recorded_with_address_and_means(
    client: httpx.Client, credentials: Credentials, owner: Engine
) -> None:
    form = {"username": "viewer", "password": credentials["viewer"]["password"]}
    assert client.post("/v1/token", data=form).status_code == 200
    row = rows(owner, "sign_in")[-1]
    assert (row["account"], row["outcome"], row["means"]) == ("viewer", "done", "password")
    assert row["address"] == "127.0.0.1"
    assert row["detail"] == {"for": "/v1/token"}
    assert sign_in(client, form).status_code == 303
    assert rows(owner, "sign_in")[-1]["detail"] == {"for": "/login"}
    csrf = client.get("/v1/session").json()["csrf"]
    assert client.post("/logout", data={"csrf": csrf}).status_code == 303
    out = rows(owner, "sign_out")
    assert [(row["account"], row["means"]) for row in out] == [("viewer", "session")]


def test_a_failed_sign_in_names_accounts_and_never_what_was_typed(
    client: httpx.Client, owner: Engine
) -> None:
    with owner.begin() as connection:
        create_account(connection, "victim", "viewer")
    for name, password in (("victim", TYPED), (TYPED, "x"), (TELEPHONE, TYPED), ("a\x00b", "x")):
        assert client.post(
            "/v1/token", data={"username": name, "password": password}
        ).status_code in (
            401,
            422,
        )
    known = told(owner, lambda row: row["account"] == "victim")
    assert (known["act"], known["outcome"]) == ("sign_in", "refused")
    assert known["subject"] == "account:victim"
    stranger = told(
        owner,
        lambda row: row["act"] == "sign_in" and row["outcome"] == "refused" and not row["account"],
    )
    assert stranger["address"] == "127.0.0.1"
    kept = str(rows(owner))
    assert TYPED not in kept
    assert TELEPHONE not in kept


def test_being_held_off_is_recorded_and_a_flood_of_it_is_one_row(
    client: httpx.Client, owner: Engine
) -> None:
    with owner.begin() as connection:
        create_account(connection, "flooded", "viewer")
    form = {"username": "flooded", "password": "wrong"}
    statuses = [client.post("/v1/token", data=form).status_code for _ in range(30)]
    assert statuses.count(429) >= 20
    held = told(owner, lambda row: row["detail"].get("why") == "held off")
    assert held["account"] == "flooded"
    time.sleep(1.2)
    found = [row for row in rows(owner, "sign_in") if row["account"] == "flooded"]
    assert len(found) <= 4


def test_a_write_and_its_row_are_one(
    client: httpx.Client, key: Key, owner: Engine, credentials: Credentials
) -> None:
    sent = incident(**PERSONAL)
    headers = key("commander")
    answer = client.post("/v1/incidents", json=sent, headers=headers)
    assert answer.status_code == 201, answer.text
    edit = {"state": "verified", "reason": f"told by {TELEPHONE}"}
    path = f"/v1/incidents/{sent['incident_id']}"
    edited = client.patch(path, json=edit, headers={**headers, "If-Match": '"1"'})
    assert edited.status_code == 200
    assert client.patch(path, json=edit, headers={**headers, "If-Match": '"1"'}).status_code == 412
    other = incident(**PERSONAL)
    client.post("/v1/incidents", json=other, headers=headers)
    into = {"into": sent["incident_id"], "reason": "the same"}
    path = f"/v1/incidents/{other['incident_id']}"
    assert client.post(f"{path}/merge", json=into, headers=headers).status_code == 200
    assert client.post(f"{path}/unmerge", json={"reason": "no"}, headers=headers).status_code == 200
    declared = {"reason": TELEPHONE, "facts": {"national_response": "II"}}
    plan = "/v1/plans/communications-2024/facts"
    assert client.put(plan, json=declared, headers=headers).status_code == 200
    found = [
        row for row in rows(owner) if row["account"] == "commander" and "batch" in row["detail"]
    ]
    assert [(row["act"], row["subject"]) for row in found] == [
        ("incident.submitted", f"incident:{sent['incident_id']}"),
        ("incident.edited", f"incident:{sent['incident_id']}"),
        ("incident.submitted", f"incident:{other['incident_id']}"),
        ("incident.merged", f"incident:{other['incident_id']}"),
        ("incident.unmerged", f"incident:{other['incident_id']}"),
        ("facts.declared", "plan:communications-2024"),
    ]
    assert {row["means"].split()[0] for row in found} == {"key"}
    assert {row["address"] for row in found} == {"127.0.0.1"}
    assert TELEPHONE not in str(rows(owner))
    conflicting = {**sent, "description": "another"}
    assert client.post("/v1/incidents", json=conflicting, headers=headers).status_code == 409
    assert rows(owner)[-1]["outcome"] == "refused"


def test_what_came_back_rolled_back_leaves_no_row(
    client: httpx.Client, key: Key, owner: Engine
) -> None:
    before = len(rows(owner))
    wrong = incident(**PERSONAL, occurred_at="2999-01-01T00:00:00Z")
    assert client.post("/v1/incidents", json=wrong, headers=key("commander")).status_code == 422
    sent = incident(**PERSONAL)
    assert client.post("/v1/incidents", json=sent, headers=key("commander")).status_code == 201
    again = client.post("/v1/incidents", json=sent, headers=key("commander"))
    assert again.status_code == 200
    assert [row["act"] for row in rows(owner)[before:] if row["act"] != "request"] == [
        "incident.submitted"
    ]


def test_scenarios_exports_and_outages_leave_rows(
    client: httpx.Client, key: Key, owner: Engine, database_url: str
) -> None:
    engine = app_engine(database_url)
    bring(engine, *inventory(30))
    engine.dispose()
    kept = {
        "name": "what if",
        "changes": [{"adcodes": ["500103"], "kind": "base_station", "state": "down"}],
    }
    made = client.post("/v1/scenarios", json=kept, headers=key("planner"))
    assert made.status_code == 201, made.text
    path = f"/v1/scenarios/{made.json()['scenario_id']}"
    assert client.patch(path, json={"shared": True}, headers=key("planner")).status_code == 200
    assert client.delete(path, headers=key("planner")).status_code == 204
    asked = {"adcode": "500103", "kind": f"op {TELEPHONE}"}
    export = client.get("/v1/export/incidents.csv", params=asked, headers=key("planner"))
    assert export.status_code == 200, export.text
    found = [row for row in rows(owner) if row["account"] == "planner"]
    assert [row["act"] for row in found if row["act"] != "request"][-4:] == [
        "scenario.kept",
        "scenario.shared",
        "scenario.retired",
        "export",
    ]
    last = found[-1]
    assert last["subject"] == "collection:incidents"
    assert last["detail"]["adcode"] == "500103"
    assert last["detail"]["rows"] == 0
    assert last["detail"]["format"] == "csv"
    assert last["detail"]["reporters"] is False
    assert TELEPHONE not in str(rows(owner))


def test_refusals_of_a_valid_credential_are_counted_not_listed(
    client: httpx.Client, key: Key, owner: Engine
) -> None:
    for _ in range(40):
        assert client.get("/v1/audit", headers=key("viewer")).status_code == 403
        path = f"/v1/incidents/{uuid4()}"
        assert client.get(path, headers=key("planner")).status_code == 404
    assert client.get("/v1/nothing-here", headers=key("planner")).status_code == 404
    told(owner, lambda row: row["subject"] == "route:GET /v1/audit")
    told(owner, lambda row: row["subject"] == "route:GET /v1/incidents/{incident_id}")
    time.sleep(1.2)
    found = [row for row in rows(owner, "request") if row["account"] in {"viewer", "planner"}]
    assert {row["outcome"] for row in found} == {"refused"}
    assert len(found) <= 6, "80 refusals"
    assert not [row for row in found if "nothing-here" in str(row)]


def test_much_that_is_read_at_once_is_recorded_with_filters_and_rows(
    client: httpx.Client, key: Key, owner: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_notes, "BULK_ROWS", 1)
    assert client.post(
        "/v1/incidents", json=incident(**PERSONAL), headers=key("commander")
    ).is_success
    asked = {"adcode": YUZHONG, "plan": "special-equipment-2023", "limit": 50, "offset": 0}
    shown = client.get("/v1/incidents", params=asked, headers=key("planner")).json()["features"]
    assert shown
    row = told(owner, lambda row: row["act"] == "read")
    assert (row["account"], row["subject"]) == ("planner", "route:/v1/incidents")
    assert row["detail"] == {
        "adcode": YUZHONG,
        "plan": "special-equipment-2023",
        "rows": len(shown),
    }
    items = client.get("/ogc/collections/incidents/items", headers=key("admin"))
    assert items.status_code == 200, items.text
    row = told(owner, lambda row: row["act"] == "read" and row["account"] == "admin")
    assert row["subject"] == "route:/ogc/collections/incidents/items"
    assert row["detail"]["rows"] == items.json()["numberReturned"]


def test_administrators_read_the_trail_a_page_at_a_time(
    client: httpx.Client, key: Key, owner: Engine
) -> None:
    for i in range(7):
        with owner.begin() as connection:
            record(connection, "paged.act", account="pager", detail={"i": i})
    seen: list[int] = []
    asked: dict[str, Any] = {"account": "pager", "act": "paged", "limit": 3}
    while True:
        page = client.get("/v1/audit", params=asked, headers=key("admin"))
        assert page.status_code == 200, page.text
        seen += [row["detail"]["i"] for row in page.json()["rows"]]
        if page.json()["next"] is None:
            break
        asked["before"] = page.json()["next"]
    assert seen == [6, 5, 4, 3, 2, 1, 0]
    head = page.json()["head"]
    assert len(head["sha256"]) == 64
    nobody = client.get("/v1/audit", params={"subject": "account:x"}, headers=key("admin")).json()
    assert nobody["rows"] == []
    since = {"since": "2020-01-01T00:00:00+08:00", "until": "2020-01-02T00:00:00+08:00"}
    assert client.get("/v1/audit", params=since, headers=key("admin")).json()["rows"] == []
    for wrong in ({"acount": "x"}, {"since": "yesterday"}, {"limit": 1001}, {"act": "a\x00"}):
        assert_problem(client.get("/v1/audit", params=wrong, headers=key("admin")), 422)
    for role in ("viewer", "field", "utility", "planner", "commander"):
        assert_problem(client.get("/v1/audit", headers=key(role)), 403)
    told(owner, lambda row: row["act"] == "read" and row["subject"] == "route:/v1/audit")


def test_the_commands_are_recorded_and_show_the_trail(shell: Shell, owner: Engine) -> None:
    head = shell("audit", "head").strip()
    made = json.loads(shell("account", "add", "clerk", "--role", "field", "--district", "500103"))
    shell("account", "password", "clerk", stdin="correct horse battery\n")
    given = json.loads(shell("account", "keys", "add", "clerk", "--label", "phone"))
    shell("account", "keys", "revoke", "clerk", str(given["id"]))
    shell("account", "lock", "clerk")
    shell("account", "reset", "clerk")
    listed = [
        json.loads(line)
        for line in shell("audit", "list", "--subject", "account:clerk").splitlines()
    ]
    assert [row["act"] for row in listed][::-1] == [
        *("key.made", "account.made", "account.password", "key.made", "key.revoked"),
        *("account.locked", "key.made", "account.reset"),
    ]
    assert {row["means"].split()[0] for row in listed} == {"shell"}
    kept = str(rows(owner))
    for secret in (made["password"], made["api_key"], given["api_key"], "correct horse"):
        assert secret not in kept
    assert "as they were written" in shell("audit", "verify", "--head", head)
    forged = f"3:{'ab' * 32}"
    assert "not in the chain" in shell("audit", "verify", "--head", forged, code=1)
    assert "head" in shell("audit", "verify", "--head", "nonsense", code=1)


def test_verify_names_the_row_a_superuser_altered(shell: Shell, owner: Engine) -> None:
    with owner.begin() as connection:
        record(connection, "to.alter", account="honest")
    number = rows(owner)[-1]["number"]
    change = "UPDATE audit SET account = :to WHERE number = :n"
    for name in ("mallory", "honest"):
        with owner.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(text(change), {"to": name, "n": number})
        if name == "mallory":
            assert f"row {number} (to.alter)" in shell("audit", "verify", code=1)
            assert f"row {number} (to.alter)" in shell("db", "verify", code=1)
    shell("audit", "verify")


# --- the tally --------------------------------------------------------------------------------


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = app_engine(database_url, pool_size=4)
    yield made
    made.dispose()


def flood(act: str, n: int, *, address: str = "192.0.2.1") -> Seen:
    return Seen(act, "refused", Origin(address, "token"), f"user-{n}")


def test_a_flood_of_different_kinds_stays_bounded(engine: Engine, owner: Engine) -> None:
    tally = AuditTally(engine, quiet_s=60)
    tally.start()
    for i in range(5 * KINDS_MAX):
        for _ in range(3):
            tally.note(flood("flood.kinds", i))
    tally.stop()
    found = rows(owner, "flood.kinds")
    assert len(found) <= KINDS_MAX + 1 + KINDS_MAX
    assert sum(row["detail"].get("times", 1) for row in found) == 15 * KINDS_MAX, "none is lost"


def test_the_same_from_many_threads_is_one_row_then_one_a_while(
    engine: Engine, owner: Engine
) -> None:
    tally = AuditTally(engine, quiet_s=1.5)
    tally.start()
    stop = time.monotonic() + 3.2

    def hammer() -> None:
        while time.monotonic() < stop:
            tally.note(flood("flood.same", 1), rows=2)
            time.sleep(0.002)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.stop()
    found = rows(owner, "flood.same")
    assert 2 <= len(found) <= 6
    times = sum(row["detail"].get("times", 1) for row in found)
    assert sum(row["detail"]["rows"] for row in found) == 2 * times


def test_what_cannot_be_written_is_told_later(engine: Engine, owner: Engine) -> None:
    tally = AuditTally(engine)
    with owner.begin() as connection:
        connection.execute(text("REVOKE EXECUTE ON FUNCTION append_audit FROM yutu_app"))
    try:
        tally.start()
        for _ in range(5):
            tally.note(flood("flood.late", 1))
        time.sleep(1.2)
        assert rows(owner, "flood.late") == []
    finally:
        with owner.begin() as connection:
            connection.execute(text("GRANT EXECUTE ON FUNCTION append_audit TO yutu_app"))
    tally.stop()
    (row,) = rows(owner, "flood.late")
    assert row["detail"]["times"] == 5


def test_after_all_this_the_chain_is_whole(owner: Engine, app: FastAPI, tmp_path: Path) -> None:
    with owner.connect() as connection:
        check = check_chain(connection)
    assert check.wrong == 0, check.examples
    assert check.looked_at == len(rows(owner))
