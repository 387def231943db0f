"""The audit trail: a row if and only if the act was committed, in a chain that nobody can change
without its being found."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from data.accounts import create_account, lock_account
from data.audit import masked, plain, record
from data.audit_acts import _ACTS, WITHOUT_ROW
from data.audit_chain import Head, check_chain, head_of, row_sha256
from data.audit_trail import TrailQuestion, trail
from data.cluster import Cluster
from data.database import app_engine, migrate, owner_engine, reading, writing
from data.identities import Identity, end_sign_on, sign_on
from data.incident_submission import store_incident
from data.rulepacks import load_packs
from data.verify import verify
from geo.errors import InvalidInput
from tests.conftest import drop_database
from tests.data.stored import at, bring, inventory, send
from tests.feeds import COMMANDER, incident

ROOT = Path(__file__).resolve().parents[2]
TELEPHONE = "13812345678"
SECRET = "wren-lantern-mauve-7Qx"
CONCURRENT = 200


@pytest.fixture(scope="module")
def owner(database_url: str) -> Iterator[Engine]:
    engine = owner_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def app(database_url: str) -> Iterator[Engine]:
    engine = app_engine(database_url, pool_size=16)
    yield engine
    engine.dispose()


def act(engine: Engine, name: str, **more: Any) -> None:
    with engine.begin() as connection:
        record(connection, name, **more)


def wrong(engine: Engine, *heads: Head) -> list[str]:
    with reading(engine, snapshot=True) as connection:
        return check_chain(connection, heads).examples


def newest_number(engine: Engine) -> int:
    with engine.connect() as connection:
        head = head_of(connection)
    assert head is not None
    assert head.number is not None
    return head.number


@contextmanager
def as_superuser(engine: Engine, *statements: str) -> Iterator[Connection]:
    """What no trigger stops, taken back at the end."""
    with engine.connect() as connection, connection.begin() as transaction:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for one in statements:
            connection.execute(text(one))
        yield connection
        transaction.rollback()


def test_an_act_leaves_a_row_that_says_who_what_and_from_where(app: Engine) -> None:
    act(app, "plan.read", account="anna", subject="plan:p", detail={"n": 3, "list": ["a", "b"]})
    with app.connect() as connection:
        newest = trail(connection, TrailQuestion(), limit=1)[0]
        first = trail(connection, TrailQuestion(act="audit.begun"))
    assert [row["number"] for row in first] == [1]
    assert {name: newest[name] for name in ("act", "outcome", "account", "subject")} == {
        "act": "plan.read",
        "outcome": "done",
        "account": "anna",
        "subject": "plan:p",
    }
    assert newest["detail"] == {"n": 3, "list": ["a", "b"]}
    assert newest["means"].startswith("shell of ")
    assert wrong(app) == []


def test_an_act_that_rolled_back_leaves_no_row_and_no_gap(app: Engine) -> None:
    act(app, "one")
    before = newest_number(app)
    with app.connect() as connection, connection.begin() as transaction:
        record(connection, "two")
        transaction.rollback()
    act(app, "three")
    with app.connect() as connection:
        found = trail(connection, TrailQuestion(), limit=2)
    assert [row["act"] for row in found] == ["three", "one"]
    assert newest_number(app) == before + 1
    assert wrong(app) == []


def test_two_hundred_acts_at_once_make_one_unbroken_chain(app: Engine) -> None:
    def one(i: int) -> None:
        with app.connect() as connection, connection.begin() as transaction:
            record(connection, "at.once", account=f"user-{i}", detail={"i": i})
            if i % 10 == 0:
                transaction.rollback()

    before = newest_number(app)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(CONCURRENT)))
    kept = CONCURRENT - CONCURRENT // 10
    assert newest_number(app) == before + kept
    assert wrong(app) == []
    with app.connect() as connection:
        rows = connection.execute(text("SELECT * FROM audit ORDER BY number")).all()
    assert [row.number for row in rows] == list(range(1, before + kept + 1))
    assert {row.account for row in rows if row.act == "at.once"} == {
        f"user-{i}" for i in range(CONCURRENT) if i % 10
    }
    assert [row.at for row in rows] == sorted(row.at for row in rows)


ODD = ["", "重庆·渝中", "a:b,c-", "𝒳 ￿", "'; DROP TABLE audit; --", "-", "7:seven,"]


@pytest.mark.parametrize("odd", ODD)
def test_python_and_the_database_agree_on_every_hash(app: Engine, odd: str) -> None:
    act(app, odd or "empty", account=odd, subject=f"thing:{odd}", detail={"said": odd, odd: [1.5]})
    with app.connect() as connection:
        row = connection.execute(text("SELECT * FROM audit ORDER BY number DESC LIMIT 1")).one()
    assert row_sha256(row, bytes(row.previous_sha256)) == bytes(row.sha256)
    assert row.account == odd


@pytest.fixture(scope="module")
def ten(
    cluster: Cluster, make_database: Callable[[str | None], str], template_database: str
) -> Iterator[Engine]:
    """Nine rows after the first, of a superuser."""
    url = make_database(template_database)
    engine = owner_engine(url)
    for i in range(2, 11):
        act(engine, "done", account=f"user-{i}")
    assert wrong(engine) == []
    yield engine
    engine.dispose()
    drop_database(cluster, url)


MOVED = (
    "UPDATE audit SET number = 1000 WHERE number = 5",
    "UPDATE audit SET number = 5 WHERE number = 6",
    "UPDATE audit SET number = 6 WHERE number = 1000",
)
PUT_IN = "INSERT INTO audit SELECT {number}, at, act, outcome, 'mallory', address, means, subject,"
PUT_IN += " detail, previous_sha256, sha256 FROM audit WHERE number = 5"
MADE_ANEW = """
UPDATE audit SET account = 'mallory', sha256 = sha256(convert_to(
    audit_part('yutu audit 1') || audit_part(encode(previous_sha256, 'hex'))
    || audit_part(number::text) || audit_part((extract(epoch FROM at) * 1000000)::bigint::text)
    || audit_part(act) || audit_part(outcome) || audit_part('mallory') || audit_part(address)
    || audit_part(means) || audit_part(subject) || audit_part(detail), 'UTF8'))
WHERE number = 5
"""
TAMPERED: dict[str, tuple[tuple[str, ...], str]] = {
    "altered": (("UPDATE audit SET account = 'mallory' WHERE number = 5",), "row 5 .*altered"),
    "its time": (
        ("UPDATE audit SET at = at + interval '1 microsecond' WHERE number = 5",),
        "row 5 .*altered",
    ),
    "its outcome": (("UPDATE audit SET outcome = 'refused' WHERE number = 5",), "row 5 "),
    "made anew": ((MADE_ANEW,), "row 5 was altered or put in and its hash made anew"),
    "removed": (("DELETE FROM audit WHERE number = 5",), "row 5 was removed"),
    "no JSON any more": (
        (
            "ALTER TABLE audit DROP CONSTRAINT ck_audit_detail",
            "UPDATE audit SET detail = 'x' WHERE number = 5",
        ),
        "row 5 .*altered",
    ),
    "several": (("DELETE FROM audit WHERE number BETWEEN 4 AND 6",), "rows 4 to 6 were removed"),
    "the first": (("DELETE FROM audit WHERE number = 1",), "row 1 was removed"),
    "all": (("DELETE FROM audit",), "row 1 was removed, and every other"),
    "swapped": (MOVED, "row 5 .*moved"),
    "removed and closed up": (
        (
            "DELETE FROM audit WHERE number = 5",
            "UPDATE audit SET number = number - 1 WHERE number > 5 AND number < 7",
        ),
        "row 5 .*altered, moved",
    ),
    "put in at the end": ((PUT_IN.format(number=11),), "row 11 .*put in"),
    "put in far behind": ((PUT_IN.format(number=20),), "rows 11 to 19 were removed"),
    "put in before": (
        ("ALTER TABLE audit DROP CONSTRAINT ck_audit_number", PUT_IN.format(number=0)),
        "row 0 .*before the first",
    ),
    "twice": (
        ("ALTER TABLE audit DROP CONSTRAINT pk_audit", PUT_IN.format(number=5)),
        "row 5 .*(altered|twice)",
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_superusers_change_is_named(ten: Engine, how: str) -> None:
    statements, named = TAMPERED[how]
    with as_superuser(ten, *statements) as connection:
        found = check_chain(connection).examples
    assert re.match(named, found[0]), found


def test_a_disabled_trigger_hides_nothing(ten: Engine) -> None:
    with ten.connect() as connection, connection.begin() as transaction:
        connection.execute(text("ALTER TABLE audit DISABLE TRIGGER ALL"))
        connection.execute(text("UPDATE audit SET detail = '{}' || ' ' WHERE number = 7"))
        connection.execute(text("ALTER TABLE audit ENABLE TRIGGER ALL"))
        assert check_chain(connection).examples[0].startswith("row 7 ")
        transaction.rollback()


def test_rows_cut_off_at_the_end_are_found_by_a_head_noted_elsewhere(ten: Engine) -> None:
    with ten.connect() as connection:
        head = head_of(connection)
    assert head is not None
    assert head.number == 10
    assert wrong(ten, head, Head.parse(head.sha256), Head.parse(str(head))) == []
    with as_superuser(ten, "DELETE FROM audit WHERE number >= 10") as connection:
        assert check_chain(connection).wrong == 0, "alone, the chain cannot tell"
        for noted in (head, Head(None, head.sha256)):
            (found,) = check_chain(connection, [noted]).examples
            assert "rows were cut off at its end" in found
        record(connection, "grown again")
        record(connection, "and again")
        assert check_chain(connection).wrong == 0
        assert check_chain(connection, [head]).wrong == 1


@pytest.mark.parametrize("said", ["", "12", "12:", "g" * 64, f"x:{'a' * 64}", "a" * 63])
def test_what_is_no_head_is_refused(said: str) -> None:
    with pytest.raises(InvalidInput):
        Head.parse(said)


def test_another_databases_chain_cannot_stand_in(
    ten: Engine, make_database: Callable[[str | None], str]
) -> None:
    with ten.connect() as connection:
        head = head_of(connection)
    other = owner_engine(make_database(None))
    migrate(other.url.render_as_string(hide_password=False))
    for i in range(2, 11):
        act(other, "done", account=f"user-{i}")
    assert head is not None
    assert wrong(other) == []
    assert len(wrong(other, head)) == 1
    other.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET account = 'x'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "INSERT INTO audit SELECT number + 1, at, act, outcome, account, address, means, subject,"
        " detail, previous_sha256, sha256 FROM audit",
        "ALTER TABLE audit DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
        "CREATE OR REPLACE FUNCTION audit_part(value text) RETURNS text LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_the_api_role_can_only_append(app: Engine, statement: str) -> None:
    with app.connect() as connection, pytest.raises(ProgrammingError):
        connection.execute(text(statement))
    with app.connect() as connection:
        connection.execute(text("SET ROLE yutu_reader"))
        with pytest.raises(ProgrammingError):
            connection.execute(text("SELECT count(*) FROM audit"))


@pytest.mark.parametrize("change", ["UPDATE audit SET account = 'x'", "DELETE FROM audit"])
def test_even_the_owner_is_told_that_rows_stay(owner: Engine, change: str) -> None:
    for statement in (change, "TRUNCATE audit"):
        with owner.connect() as connection, pytest.raises(DBAPIError, match="never changed"):
            connection.execute(text(statement))


# --- what is recorded -------------------------------------------------------------------------


def test_every_channel_of_writes_was_thought_about() -> None:
    used = set()
    for module in (ROOT / "data").glob("*.py"):
        used |= set(re.findall(r'\bchannel="([a-z_]+)"', module.read_text(encoding="utf-8")))
    assert used >= {"incident", "facilities", "status"}
    assert used <= WITHOUT_ROW | set(_ACTS)
    assert not WITHOUT_ROW & set(_ACTS)


def test_a_write_of_an_unknown_kind_is_not_stored(divided: Engine) -> None:
    with (
        pytest.raises(KeyError),
        writing(divided, channel="unheard-of", account="t", body=b"") as write,
    ):
        write.kind = "test"
    with divided.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM batch")).scalar_one() == 0


def acts(connection: Connection) -> list[str]:
    return [row["act"] for row in trail(connection, TrailQuestion(), 1000)][::-1]


def test_events_of_status_leave_no_row_and_wait_for_nobody(divided: Engine) -> None:
    bring(divided, *inventory(20))
    with divided.connect() as held, held.begin():
        record(held, "slow")  # its transaction stays open: nobody else appends meanwhile
        for n in range(5):
            send(
                divided,
                {"event_id": f"e{n}", "facility_id": "F1", "state": "down", "observed_at": at(n)},
            )
    with divided.connect() as connection:
        assert acts(connection)[-2:] == ["facilities.imported", "slow"]


def test_the_trail_holds_the_hash_of_what_was_sent(divided: Engine, divided_owner: Engine) -> None:
    body = b'{"what": "was sent"}'
    store_incident(divided, incident(), body=body, account=COMMANDER, packs=load_packs())
    assert wrong(divided) == []
    assert all(check.wrong == 0 for check in verify(divided).checks if check.name == "audit")
    forged = "UPDATE batch SET body = 'x', body_sha256 = sha256('x') WHERE body <> ''"
    with as_superuser(divided_owner, forged) as connection:
        found = check_chain(connection).examples
    assert "what was sent then is not what is stored now" in found[-1]


def test_no_telephone_number_and_no_text_of_anyones_is_in_the_trail(
    divided: Engine, divided_owner: Engine
) -> None:
    sent = incident(
        description=f"call {TELEPHONE}",
        reporter={"name": f"王某 {SECRET}", "phone": TELEPHONE},
        hotline={
            "order_number": f"H-{TELEPHONE}",
            "caller": {"name": SECRET, "phone": "+86 138 1234 5678"},
        },
    )
    store_incident(divided, sent, body=b"{}", account=COMMANDER, packs=load_packs())
    with divided_owner.begin() as connection:
        create_account(connection, "canary", "viewer", password=SECRET)
        lock_account(connection, "canary")
        record(
            connection,
            "tried",
            subject=f"order:{TELEPHONE}",
            detail={"said": f"tel. {TELEPHONE}", "nested": {"phone": TELEPHONE}},
        )
    with divided.connect() as connection:
        kept = "\n".join(str(tuple(row)) for row in connection.execute(text("SELECT * FROM audit")))
    assert "incident.submitted" in kept
    for canary in (TELEPHONE, SECRET, "王某", "138 1234", "argon2"):
        assert canary not in kept


def test_people_of_the_identity_provider_are_recorded_as_they_come_change_and_go(
    app: Engine,
) -> None:
    who = Identity("https://city.example", "subject-1", "Wang.Wu@city.example")
    account = sign_on(app, who, "viewer", ["*"], ["*"])
    assert account is not None
    sign_on(app, who, "field", ["500103"], ["*"])
    end_sign_on(app, who)
    with app.connect() as connection:
        rows = trail(connection, TrailQuestion(subject=f"account:{account.username}"))[::-1]
    assert [(row["act"], row["outcome"]) for row in rows] == [
        ("account.made", "done"),
        ("sign_in", "done"),
        ("account.changed", "done"),
        ("sign_in", "done"),
        ("sign_in", "refused"),
    ]
    assert {row["means"] for row in rows} == {"single sign-on"}
    assert rows[2]["detail"] == {"role": "field", "districts": ["500103"], "operators": ["*"]}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("138-1234-5678", "…"),
        ("ring (023) 6712 3456 now", "ring (… now"),
        ("+86 13812345678", "+…"),
        ("500103", "500103"),
        ("2026-11-21T08:00:00+08:00", "2026-11-21T08:00:00+08:00"),
        ("0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6b", "0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6b"),
        ("106.55161,29.563,106.6,29.6", "106.55161,29.563,106.6,29.6"),
        ("a\nb\x00c", "a b c"),
        ("x" * 500, "x" * 200),
    ],
)
def test_text_is_masked_where_it_could_be_a_telephone_number(said: str, kept: str) -> None:
    assert masked(said) == kept


def test_long_lists_and_large_numbers_stay_readable() -> None:
    found = plain({"codes": list(range(80)), "big": 2**60, "none": None, "on": True})
    assert len(found["codes"]) == 50
    assert found["codes_in_all"] == 80
    assert found["big"] == str(2**60)
    assert found["on"] is True
    assert "none" not in found
