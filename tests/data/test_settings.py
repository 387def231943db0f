"""What an operator sets is read; what cannot be used is named with its value, secrets excepted."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api.deps import check_settings
from data.settings import (
    DatabaseSettings,
    DemoSettings,
    PathsSettings,
    SecuritySettings,
    ServerSettings,
    Settings,
    SituationSettings,
    WrongSetting,
)
from geo.errors import InvalidInput


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("YUTU_") or name in {"PORT", "TLS"}:
            monkeypatch.delenv(name)


def test_nothing_set_gives_the_documented_defaults() -> None:
    assert PathsSettings.load().var == Path(__file__).resolve().parents[2] / "var"
    assert ServerSettings.load().host == "127.0.0.1"
    assert ServerSettings.load().port == 8000
    assert DatabaseSettings.load().sqlalchemy_url is None
    situation = SituationSettings.load()
    assert situation.silent_after_minutes == 15
    assert (situation.noise_floor_sites, situation.noise_floor_share) == (3, 0.01)
    assert situation.builds_per_second == 5


def test_port_is_taken_from_PORT_and_YUTU_PORT_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "8123")
    assert ServerSettings.load().port == 8123
    monkeypatch.setenv("YUTU_PORT", "8124")
    assert ServerSettings.load().port == 8124


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "YUTU_DATABASE_URL", "YUTU_VAR", "YUTU_DEMO", "YUTU_SECRET_FILE"):
        monkeypatch.setenv(name, "")
    assert ServerSettings.load().port == 8000
    assert DatabaseSettings.load().url is None
    assert DemoSettings.load().demo is None
    assert SecuritySettings.load().secret_file is None


def test_every_bad_variable_is_named_together_with_its_value_and_what_would_be_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORT", "99999")
    monkeypatch.setenv("YUTU_WORKERS", "none-at-all")
    monkeypatch.setenv("TLS", "maybe\n")
    with pytest.raises(WrongSetting) as refused:
        ServerSettings.load()
    assert [str(fault) for fault in refused.value.faults] == [
        r"TLS: 'maybe\n': must be 1 or 0",
        "PORT: '99999': must be a whole number from 0 to 65535",
        "YUTU_WORKERS: 'none-at-all': must be a whole number from 1 to 64",
    ]


@pytest.mark.parametrize(
    ("kind", "variable", "given", "said"),
    [
        (ServerSettings, "YUTU_PORT", "8000.5", "'8000.5': must be a whole number from 0 to 65535"),
        (SituationSettings, "YUTU_BUILDS_PER_SECOND", "0", "'0': must be a number above 0 and up to 50"),
        (SituationSettings, "YUTU_NOISE_FLOOR_SHARE", "nan", "'nan': must be a number from 0 to 1"),
        (SituationSettings, "YUTU_NOISE_FLOOR_SITES", "-1", "'-1': must be a whole number from 0"),
        (SituationSettings, "YUTU_REACH_M", "3km", "'3km' is not a JSON object such as {\"base_station\""),
        (SituationSettings, "YUTU_REACH_M", '{"tower": "far"}', "must be numbers, as in {"),
        (DemoSettings, "YUTU_DEMO", "perhaps", "'perhaps': must be 1 or 0"),
        (ServerSettings, "PORT", "9" * 5000, f"'{'9' * 60}'…: must be a whole number"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_in_our_own_words(
    monkeypatch: pytest.MonkeyPatch, kind: type[Settings], variable: str, given: str, said: str
) -> None:
    monkeypatch.setenv(variable, given)
    with pytest.raises(WrongSetting) as refused:
        kind.load()
    assert [fault.field for fault in refused.value.faults] == [variable]
    assert said in str(refused.value)
    assert "Input should" not in str(refused.value)


def test_everything_that_can_be_set_is_checked_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = {"YUTU_PARSE_SECONDS": "0", "YUTU_INCIDENT_DUPLICATE_HOURS": "x", "PORT": "x"}
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(WrongSetting) as refused:
        check_settings()
    assert {fault.field for fault in refused.value.faults} == set(wrong)


@pytest.mark.parametrize("given", ["postgres://a:pw@h/n", "postgresql://a:pw@h/n"])
def test_a_database_url_is_given_our_driver(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("YUTU_DATABASE_URL", given)
    assert DatabaseSettings.load().sqlalchemy_url == "postgresql+psycopg://a:pw@h/n"
    assert "pw" not in repr(DatabaseSettings.load())


@pytest.mark.parametrize(
    "given",
    [
        "mysql://a:hunter2@h/n",
        "hunter2",
        "postgresql://a:hunter2@h",
        "postgresql://a:hunter2@h:p/n",
    ],
)
def test_a_database_url_that_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("YUTU_DATABASE_URL", given)
    with pytest.raises(InvalidInput, match="YUTU_DATABASE_URL") as refused:
        DatabaseSettings.load()
    assert "hunter2" not in str(refused.value)


def test_the_database_password_may_stand_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("s/p@ce\n")
    monkeypatch.setenv("YUTU_DATABASE_URL", "postgresql://yutu@db/yutu")
    monkeypatch.setenv("YUTU_DATABASE_PASSWORD_FILE", str(tmp_path / "password"))
    assert DatabaseSettings.load().sqlalchemy_url == "postgresql+psycopg://yutu:s%2Fp%40ce@db/yutu"
    (tmp_path / "password").unlink()
    with pytest.raises(InvalidInput, match="YUTU_DATABASE_PASSWORD_FILE"):
        _ = DatabaseSettings.load().sqlalchemy_url


@pytest.mark.parametrize("secret", ["", "   ", "x" * 31])
def test_an_empty_or_short_secret_is_refused(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("YUTU_SECRET", secret)
    with pytest.raises(InvalidInput, match="YUTU_SECRET"):
        SecuritySettings.load()


def test_the_first_start_makes_one_private_secret_and_later_ones_keep_it(tmp_path: Path) -> None:
    paths = PathsSettings(var=tmp_path / "var")
    with ThreadPoolExecutor(8) as pool:
        starts = [pool.submit(SecuritySettings.load().signing_secret, paths) for _ in range(16)]
    found = {start.result() for start in starts}
    assert len(found) == 1
    assert len(found.pop()) == 64
    assert stat.S_IMODE(paths.secret.stat().st_mode) == 0o600
    assert [file.name for file in paths.var.iterdir()] == ["secret"]


@pytest.mark.parametrize("content", ["", "\n", "x" * 31])
def test_a_secret_file_that_lost_its_content_is_refused_not_replaced(
    tmp_path: Path, content: str
) -> None:
    paths = PathsSettings(var=tmp_path)
    paths.secret.write_text(content)
    paths.secret.chmod(0o600)
    with pytest.raises(InvalidInput, match="32"):
        SecuritySettings.load().signing_secret(paths)
    assert paths.secret.read_text() == content


def test_a_secret_others_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    paths = PathsSettings(var=tmp_path)
    paths.secret.write_text("x" * 64)
    paths.secret.chmod(0o644)
    with pytest.raises(InvalidInput, match="chmod 600"):
        SecuritySettings.load().signing_secret(paths)


def test_the_demonstration_goes_into_a_given_database_only_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert DemoSettings.load().wanted(DatabaseSettings.load())
    monkeypatch.setenv("YUTU_DATABASE_URL", "postgresql://yutu@db/yutu")
    assert not DemoSettings.load().wanted(DatabaseSettings.load())
    monkeypatch.setenv("YUTU_DEMO", "1")
    assert DemoSettings.load().wanted(DatabaseSettings.load())
    monkeypatch.setenv("YUTU_DEMO", "0")
    monkeypatch.delenv("YUTU_DATABASE_URL")
    assert not DemoSettings.load().wanted(DatabaseSettings.load())


@pytest.mark.parametrize("given", ["nothing", '{"base_station": -1}', "[3]"])
def test_a_reach_that_is_no_distance_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("YUTU_REACH_M", given)
    with pytest.raises(InvalidInput, match="YUTU_REACH_M"):
        SituationSettings.load()
