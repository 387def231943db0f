"""Accounts: made once, their file whole and private, secrets that nobody else knows."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from data import accounts
from data.accounts import (
    FIRST_RUN,
    authenticate,
    create_account,
    first_run,
    lock_account,
    reset_account,
    set_password,
)
from data.api_keys import holding_keys, key_sha256, keys_of
from data.database import app_engine, owner_engine
from data.tables_reports import account
from geo.errors import Conflict, InvalidInput, NotFound


@pytest.fixture
def owner(empty_database_url: str) -> Iterator[Engine]:
    engine = owner_engine(empty_database_url)
    yield engine
    engine.dispose()


def count(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(account)).scalar_one())


def test_the_first_run_tells_each_account_once(
    owner: Engine, empty_database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "var" / "credentials.json"
    assert first_run(owner, path)
    told = json.loads(path.read_text(encoding="utf-8"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["credentials.json"]
    assert set(told) == set(FIRST_RUN)
    assert len({one["password"] for one in told.values()}) == len(told)
    engine = app_engine(empty_database_url, pool_size=2)
    for name, one in told.items():
        assert set(one) == {"username", "password", "api_key", "districts"}
        assert len(one["api_key"]) > 43
        known = authenticate(engine, one["username"], one["password"])
        assert known is not None
        assert known.username == name
        with owner.connect() as connection:
            assert [k.sha256 for k in keys_of(connection, name)] == [key_sha256(one["api_key"])]
        assert list(known.districts) == one["districts"]
    assert told["field"]["districts"] != told["field-other"]["districts"]
    assert told["viewer"]["districts"] == told["utility"]["districts"] == ["*"]
    assert authenticate(engine, "viewer", told["admin"]["password"]) is None
    engine.dispose()
    before = path.read_bytes()
    assert not first_run(owner, path)
    assert path.read_bytes() == before
    path.unlink()
    assert not first_run(owner, path)
    assert not path.exists()


def test_a_crash_before_the_commit_leaves_no_account_without_its_secrets(
    owner: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "credentials.json"
    write = accounts._write_secret_file

    def write_then_die(*arguments: object) -> None:
        write(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(accounts, "_write_secret_file", write_then_die)
    with pytest.raises(KeyboardInterrupt):
        first_run(owner, path)
    assert count(owner) == 0
    orphaned = path.read_bytes()
    monkeypatch.undo()
    assert first_run(owner, path)
    assert path.read_bytes() != orphaned
    assert count(owner) == len(FIRST_RUN)


def test_a_file_that_cannot_be_written_leaves_no_account(owner: Engine, tmp_path: Path) -> None:
    (tmp_path / "credentials.json").mkdir()
    with pytest.raises(OSError, match=r"credentials\.json"):
        first_run(owner, tmp_path / "credentials.json")
    assert count(owner) == 0
    assert [one.name for one in tmp_path.iterdir()] == ["credentials.json"]


def test_two_first_runs_at_once_make_one_set(owner: Engine, tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    made: list[bool] = []
    threads = [threading.Thread(target=lambda: made.append(first_run(owner, path))) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False, True]
    told = json.loads(path.read_text(encoding="utf-8"))
    with owner.connect() as connection:
        stored = {one.username: one.sha256 for one in holding_keys(connection)}
    assert stored == {name: key_sha256(one["api_key"]) for name, one in told.items()}


def test_reset_changes_both_secrets_and_lock_refuses_both(owner: Engine) -> None:
    with owner.begin() as connection:
        first = create_account(connection, "team.7", "field", ["500103", "500106"])
    assert authenticate(owner, "team.7", first.password) is not None
    with owner.begin() as connection:
        second = reset_account(connection, "team.7")
    assert authenticate(owner, "team.7", first.password) is None
    known = authenticate(owner, "team.7", second.password)
    assert known is not None
    assert (known.epoch, known.districts) == (1, ("500103", "500106"))
    with owner.begin() as connection:
        lock_account(connection, "team.7")
    assert authenticate(owner, "team.7", second.password) is None
    with owner.begin() as connection, pytest.raises(NotFound):
        reset_account(connection, "nobody")


def test_an_account_is_never_made_twice(owner: Engine) -> None:
    with owner.begin() as connection:
        first = create_account(connection, "one", "viewer")
    with owner.begin() as connection, pytest.raises(Conflict):
        create_account(connection, "one", "admin")
    known = authenticate(owner, "one", first.password)
    assert known is not None
    assert known.role == "viewer"


@pytest.mark.parametrize(
    ("username", "role", "districts", "field"),
    [
        ("", "viewer", ["*"], "username"),
        ("Ä", "viewer", ["*"], "username"),
        ("a" * 64, "viewer", ["*"], "username"),
        ("ok", "root", ["*"], "role"),
        ("ok", "viewer", [], "districts"),
        ("ok", "viewer", ["*", "500103"], "districts"),
        ("ok", "viewer", ["50010"], "districts"),
        ("ok", "viewer", ["５００１０３"], "districts"),
    ],
)
def test_a_malformed_account_is_refused(
    owner: Engine, username: str, role: str, districts: list[str], field: str
) -> None:
    with owner.begin() as connection, pytest.raises(InvalidInput) as caught:
        create_account(connection, username, role, districts)
    assert [fault.field for fault in caught.value.faults] == [field]


@pytest.mark.parametrize("operator", ["a,b", "", "*", "a*"])
def test_an_operator_that_would_be_read_as_others_is_refused(owner: Engine, operator: str) -> None:
    with owner.begin() as connection, pytest.raises(InvalidInput) as caught:
        create_account(connection, "held", "utility", operators=["grid", operator])
    assert [fault.field for fault in caught.value.faults] == ["operators"]


def test_a_short_password_is_refused_and_a_long_one_is_never_hashed(owner: Engine) -> None:
    with owner.begin() as connection, pytest.raises(InvalidInput):
        create_account(connection, "short", "viewer", password="eleven-char")
    assert authenticate(owner, "short", "x" * 1_000_000) is None


def test_nobodys_hash_costs_what_a_real_one_costs_and_no_password_has_it() -> None:
    made, absent = accounts._hashing.hash("0123456789ab"), accounts._absent_hash
    assert absent.rsplit("$", 2)[0] == made.rsplit("$", 2)[0]  # kind, version, passes, memory
    assert [len(part) for part in absent.split("$")] == [len(part) for part in made.split("$")]
    spent = {}
    for one in (made, absent):
        began = time.process_time()
        assert accounts._hashing.verify("0123456789ab", one) == (one == made)
        spent[one] = time.process_time() - began
    assert spent[absent] > spent[made] / 3  # it is computed, not refused by its form


@pytest.mark.parametrize(
    "password",
    [
        "yutu-chongqing-123456",
        "Ｙｕｔｕ重庆应急指挥渝图重庆2026",
        "team.guess.team.guess",
        "CHONGQINGchongqing!",
    ],
)
def test_words_that_anybody_would_try_count_for_nothing(owner: Engine, password: str) -> None:
    with owner.begin() as connection, pytest.raises(InvalidInput, match="anybody would try"):
        create_account(connection, "team.guess", "viewer", password=password)


def test_a_long_password_may_hold_such_words(owner: Engine) -> None:
    with owner.begin() as connection:
        create_account(connection, "team.long", "viewer", password="yutu rowing at dawn, slowly")
        with pytest.raises(InvalidInput, match="anybody would try"):
            set_password(connection, "team.long", "team.long-chongqing")
    assert authenticate(owner, "team.long", "yutu rowing at dawn, slowly") is not None
