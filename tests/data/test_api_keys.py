"""API keys: narrower than their account and never wider, ending each for itself, rotated."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from data.accounts import Account, create_account, reset_account
from data.api_keys import (
    KEYS_MAX,
    ApiKey,
    draw_key,
    holding_keys,
    key_sha256,
    keys_of,
    note_uses,
    revoke_key,
    rotate_key,
    store_key,
)
from data.database import alembic_config, app_engine, owner_engine
from geo.errors import InvalidInput, NotFound

DISTRICTS = ["500103", "500106"]


@pytest.fixture
def owner(empty_database_url: str) -> Iterator[Engine]:
    engine = owner_engine(empty_database_url)
    with engine.begin() as connection:
        create_account(connection, "team", "field", DISTRICTS)
    yield engine
    engine.dispose()


def key(**changes: Any) -> ApiKey:
    now = datetime.now(UTC)
    base: dict[str, Any] = {
        "id": 1,
        "username": "team",
        "label": "x",
        "sha256": b"",
        "role": None,
        "districts": None,
        "operators": None,
        "created_at": now,
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
    }
    return ApiKey(**base | changes)


CITY_ACCOUNT = Account("team", "commander", ("*",))
FIELD_ACCOUNT = Account("team", "field", tuple(DISTRICTS), ("电信",))


@pytest.mark.parametrize(
    ("account", "limits", "left"),
    [
        (CITY_ACCOUNT, {}, ("commander", ("*",), ("*",))),
        (CITY_ACCOUNT, {"role": "field"}, ("field", ("*",), ("*",))),
        (CITY_ACCOUNT, {"districts": ("500103",)}, ("commander", ("500103",), ("*",))),
        (FIELD_ACCOUNT, {"districts": ("*",)}, ("field", tuple(DISTRICTS), ("电信",))),
        (FIELD_ACCOUNT, {"districts": ("500106", "500112")}, ("field", ("500106",), ("电信",))),
        (FIELD_ACCOUNT, {"operators": ("电信", "移动")}, ("field", tuple(DISTRICTS), ("电信",))),
        (FIELD_ACCOUNT, {"districts": ("500112",)}, None),
        (FIELD_ACCOUNT, {"operators": ("移动",)}, None),
        (FIELD_ACCOUNT, {"role": "commander"}, None),
        (FIELD_ACCOUNT, {"role": "utility"}, None),
    ],
)
def test_a_key_opens_what_it_and_its_account_have_in_common(
    account: Account, limits: dict[str, Any], left: tuple[Any, ...] | None
) -> None:
    found = key(**limits).narrowed(account)
    assert (None if found is None else (found.role, found.districts, found.operators)) == left


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"role": "commander"}, "role"),
        ({"districts": ["500112"]}, "districts"),
        ({"districts": ["500103", "500112"]}, "districts"),
        ({"districts": ["*"]}, "districts"),
        ({"label": ""}, "label"),
        ({"label": "x" * 101}, "label"),
        ({"label": "a\nb"}, "label"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expires_at"),
    ],
)
def test_a_key_that_would_reach_further_is_not_made(
    owner: Engine, limits: dict[str, Any], field: str
) -> None:
    with owner.begin() as connection, pytest.raises(InvalidInput) as caught:
        store_key(connection, "team", draw_key(), **{"label": "x"} | limits)
    assert [fault.field for fault in caught.value.faults] == [field]


def test_a_rotated_key_and_its_successor_overlap_and_have_the_same_limits(owner: Engine) -> None:
    first = draw_key()
    ends = datetime.now(UTC) + timedelta(days=30)
    with owner.begin() as connection:
        old = store_key(
            connection, "team", first, label="feed", districts=["500103"], expires_at=ends
        )
        new, second = rotate_key(connection, "team", old, overlap=timedelta(hours=2))
        held = {one.id: one for one in holding_keys(connection)}
    assert held[new].sha256 == key_sha256(second) != key_sha256(first) == held[old].sha256
    assert held[new].districts == held[old].districts == ("500103",)
    assert held[new].label == "feed"
    assert held[old].expires_at is not None
    assert timedelta(hours=1.9) < held[old].expires_at - datetime.now(UTC) < timedelta(hours=2.1)
    assert held[new].expires_at is not None
    assert timedelta(days=29) < held[new].expires_at - datetime.now(UTC) <= timedelta(days=30)
    with owner.begin() as connection:
        rotate_key(connection, "team", new)
        assert new not in {one.id for one in holding_keys(connection)}
    with owner.begin() as connection, pytest.raises(InvalidInput, match="has ended"):
        rotate_key(connection, "team", new)


def test_rotating_never_lengthens_the_life_of_the_old_key(owner: Engine) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    with owner.begin() as connection:
        old = store_key(connection, "team", draw_key(), label="x", expires_at=ends)
        rotate_key(connection, "team", old, overlap=timedelta(days=9))
        found = {one.id: one for one in keys_of(connection, "team")}
    assert found[old].expires_at == ends


def test_a_revoked_key_stays_revoked_and_is_listed(owner: Engine) -> None:
    with owner.begin() as connection:
        made = store_key(connection, "team", draw_key(), label="x")
        revoke_key(connection, "team", made)
    with owner.begin() as connection:
        first = {one.id: one for one in keys_of(connection, "team")}[made].revoked_at
        revoke_key(connection, "team", made)
    with owner.connect() as connection:
        listed = {one.id: one for one in keys_of(connection, "team")}[made]
        assert listed.revoked_at == first is not None
        assert listed.as_json()["holds"] is False
        assert made not in {one.id for one in holding_keys(connection)}


def test_a_key_of_another_account_is_not_found(owner: Engine) -> None:
    with owner.begin() as connection:
        create_account(connection, "other", "viewer")
        [others] = keys_of(connection, "other")
    for change in (revoke_key, rotate_key):
        with owner.begin() as connection, pytest.raises(NotFound):
            change(connection, "team", others.id)
    with owner.begin() as connection, pytest.raises(NotFound):
        store_key(connection, "nobody", draw_key(), label="x")


def test_a_reset_revokes_every_key_but_the_new_one(owner: Engine) -> None:
    with owner.begin() as connection:
        store_key(connection, "team", draw_key(), label="x")
        new = reset_account(connection, "team")
        assert [one.sha256 for one in holding_keys(connection)] == [key_sha256(new.api_key)]


def test_an_account_has_so_many_keys_and_no_more(owner: Engine) -> None:
    with owner.begin() as connection:
        for _ in range(KEYS_MAX - 1):  # one it has from the beginning
            store_key(connection, "team", draw_key(), label="x")
        with pytest.raises(InvalidInput, match="revoke one"):
            store_key(connection, "team", draw_key(), label="x")


def test_the_last_use_moves_forward_only(owner: Engine) -> None:
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    with owner.begin() as connection:
        [one] = keys_of(connection, "team")
        for at in (early, late, early):
            note_uses(connection, {one.id: at, 10**9: at})
        assert keys_of(connection, "team")[0].last_used_at == late


def test_two_keys_are_never_the_same_and_their_hash_is_whole(owner: Engine) -> None:
    same = draw_key()
    with owner.begin() as connection:
        store_key(connection, "team", same, label="x")
        with pytest.raises(IntegrityError, match="uq_account_key_sha256"):
            store_key(connection, "team", same, label="y")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO account_key (username, label, sha256) VALUES ('team', 'x', sha256('x'))",
        "UPDATE account_key SET revoked_at = NULL",
        "UPDATE account_key SET districts = NULL",
        "DELETE FROM account_key",
        "UPDATE account_identity SET username = 'team'",
        "UPDATE ended_session SET expires_at = now()",
    ],
)
def test_the_api_can_note_uses_and_nothing_more(
    owner: Engine, empty_database_url: str, statement: str
) -> None:
    engine = app_engine(empty_database_url, pool_size=1)
    with engine.connect() as connection:
        connection.execute(text("UPDATE account_key SET last_used_at = now()"))
        with pytest.raises(ProgrammingError, match="permission"):
            connection.execute(text(statement))
    engine.dispose()


def test_the_key_an_account_had_before_goes_on_as_its_first(bare_database_url: str) -> None:
    configuration = alembic_config(bare_database_url)
    command.upgrade(configuration, "0008")
    engine = owner_engine(bare_database_url)
    old = draw_key()
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO account (username, role, districts, password_hash, api_key_sha256)"
                " VALUES ('old', 'viewer', '{*}', 'x', :key), ('none', 'viewer', '{*}', 'x', NULL)"
            ),
            {"key": key_sha256(old)},
        )
    command.upgrade(configuration, "head")
    with engine.connect() as connection:
        assert [(k.username, k.sha256) for k in holding_keys(connection)] == [
            ("old", key_sha256(old))
        ]
    command.downgrade(configuration, "0008")
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT api_key_sha256 FROM account WHERE username = 'old'"))
        assert bytes(kept.scalar_one()) == key_sha256(old)
    engine.dispose()
