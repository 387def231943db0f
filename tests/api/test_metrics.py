"""What /metrics tells of the installation, and that every alert rule reads what it really tells."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.problems import answer_error
from data.backup_note import FILE, note_backup, noted_backups
from data.builder import BUILDER_LOCK
from data.database import app_engine, libpq_url, owner_engine, reading
from data.settings import PathsSettings
from data.vital_signs import VitalSigns, vital_signs
from tests.alert_rules import selectors
from tests.data.stored import bring, event, inventory, send

Key = Callable[[str], dict[str, str]]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
ALERTS = Path(__file__).resolve().parents[2] / "docker" / "alerts.yaml"
#: Of Prometheus itself, and the labels it adds to all.
ITS_OWN, ADDED = {"up"}, {"job", "instance"}


def told(client: httpx.Client, key: Key) -> Samples:
    """Sample and labels → value, as a scraper reads them."""
    answer = client.get("/metrics", headers=key("viewer"))
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


@pytest.fixture(scope="module", autouse=True)
def _busy(server: str, database_url: str, key: Key) -> None:
    """Facilities and events are there, a situation is built, passwords were tried."""
    engine = app_engine(database_url, pool_size=1)
    bring(engine, *inventory(12))
    sent = send(engine, *(event(f"e{i}", f"F{i}", "down", i) for i in range(6)))
    engine.dispose()
    deadline = time.monotonic() + 30
    built = f"{server}/v1/situation?min_sequence={sent.sequence}"
    while httpx.get(built, headers=key("viewer"), timeout=30).status_code != 200:
        assert time.monotonic() < deadline, "no situation is built"
        time.sleep(0.1)
    form = {"username": "viewer", "password": "not this one"}
    answers = [httpx.post(f"{server}/v1/token", data=form, timeout=30) for _ in range(6)]
    assert [one.status_code for one in answers] == [401] * 5 + [429]
    answer_error(PoolTimeoutError(), "en")  # what a pool without a free connection raises


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    loaded = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def test_every_alert_reads_metrics_and_labels_that_are_served(
    client: httpx.Client, key: Key, rules: list[dict[str, Any]]
) -> None:
    labels: dict[str, dict[str, set[str]]] = {}
    for name, pairs in told(client, key):
        kept = labels.setdefault(name, {})
        for label, one in pairs:
            kept.setdefault(label, set()).add(one)
    read = 0
    for rule in rules:
        found = selectors(rule["expr"])
        assert found, rule["alert"]
        names = {one.name for one in found}
        assert names <= labels.keys() | ITS_OWN, (rule["alert"], names - labels.keys())
        for selector in found:
            own = labels.get(selector.name, {})
            for label, how, said in selector.matchers:
                assert label in own.keys() | ADDED, (rule["alert"], selector.name, label)
                if how == "=" and label not in ADDED | {"status"}:
                    assert said in own[label], (rule["alert"], label, said)
                read += 1
        shown = set(re.findall(r"\$labels\.(\w+)", yaml.safe_dump(rule["annotations"])))
        assert shown <= set().union(*(labels.get(one, {}) for one in names)) | ADDED, rule["alert"]
    assert read >= 8


def test_a_rule_that_reads_something_else_is_noticed() -> None:
    (one,) = selectors('sum by (job) (rate(yutu_x_total{status=~"5..|x{",route!="/a b"}[5m])) > 0')
    assert one.name == "yutu_x_total"
    assert one.matchers == (("status", "=~", "5..|x{"), ("route", "!=", "/a b"))
    with pytest.raises(ValueError, match="do not match"):
        selectors("sum(rate(a[5m])")


def test_the_rules_cover_what_an_operator_must_hear_of(rules: list[dict[str, Any]]) -> None:
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in {"urgent", "warning"}
        assert set(rule["annotations"]) == {"summary", "remedy"}
    text_of_all = " ".join(rule["expr"] for rule in rules)
    for metric in (
        *("yutu_situation_behind_seconds", "yutu_builders_leading", "yutu_operator_silent"),
        *("yutu_disk_free_bytes", "yutu_wal_archive_failing", "yutu_pool_in_use"),
        *("yutu_sign_ins_total", "yutu_backup_timestamp_seconds", "yutu_clock_seconds"),
        *("yutu_operator_heard_timestamp_seconds", "yutu_requests_total", "yutu_database_up"),
    ):
        assert metric in text_of_all


def test_the_figures_are_those_of_the_installation(client: httpx.Client, key: Key) -> None:
    found = told(client, key)
    now = time.time()
    assert value(found, "yutu_database_up") == 1
    assert value(found, "yutu_builders_leading") == 1
    assert value(found, "yutu_situation_behind_seconds") < 5
    for name in ("yutu_clock_seconds", "yutu_database_clock_seconds"):
        assert abs(value(found, name) - now) < 5
    assert abs(value(found, "yutu_situation_timestamp_seconds") - now) < 300
    for operator in ("tower", "mobile", "grid"):
        heard = value(found, "yutu_operator_heard_timestamp_seconds", operator=operator)
        assert abs(heard - now) < 300
        assert value(found, "yutu_operator_silent", operator=operator) == 0
    assert value(found, "yutu_disk_reserve_bytes") == 256 * 2**20
    for folder in ("files", "database"):
        assert value(found, "yutu_disk_free_bytes", folder=folder) > 0
    assert value(found, "yutu_wal_kept") == 0
    assert value(found, "yutu_pool_most", pool="requests") >= 15
    assert value(found, "yutu_sign_ins_total", outcome="refused") >= 5
    assert value(found, "yutu_sign_ins_total", outcome="held off") >= 1
    assert value(found, "yutu_unavailable_total", error="TimeoutError") >= 1
    most = value(found, "yutu_database_connections_most")
    assert 1 <= value(found, "yutu_database_connections") <= most


def test_metrics_answer_while_the_database_does_not_and_then_leave_its_figures_out(
    client: httpx.Client, key: Key, database_url: str
) -> None:
    client.get("/metrics", headers=key("viewer"))  # the key is known from here on
    with psycopg.connect(libpq_url(database_url)) as other:
        other.execute("LOCK TABLE situation_bytes IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        found = told(client, key)
        assert time.monotonic() - started < 2.5
        assert value(found, "yutu_database_up") == 0
        assert not [name for name, _ in found if name.startswith("yutu_situation_")]
        assert value(found, "yutu_disk_reserve_bytes") > 0
        assert any(name == "yutu_requests_total" for name, _ in found)
    deadline = time.monotonic() + 10
    while value(told(client, key), "yutu_database_up") != 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_connections_in_use_are_counted(client: httpx.Client, key: Key, app: FastAPI) -> None:
    def in_use() -> float:
        return value(told(client, key), "yutu_pool_in_use", pool="requests")

    deadline = time.monotonic() + 5
    while in_use() > 0:  # the builder's, just now
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with app.state.services.engine.connect():
        assert in_use() >= 1
    deadline = time.monotonic() + 5
    while in_use() > 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_backup_is_told_by_its_time_and_one_that_never_was_by_zero(
    client: httpx.Client, key: Key
) -> None:
    var = PathsSettings.load().var
    (var / FILE).unlink(missing_ok=True)
    name = "yutu_backup_timestamp_seconds"
    assert value(told(client, key), name, part="database") == 0
    at = datetime.now(UTC) - timedelta(hours=27)
    note_backup(var, ["database", "files"], at)
    note_backup(var, ["files"], at + timedelta(hours=26))
    found = told(client, key)
    assert value(found, name, part="database") == pytest.approx(at.timestamp())
    assert value(found, name, part="files") == pytest.approx(at.timestamp() + 26 * 3600)
    (var / FILE).write_text('{"database": "yesterday"}')
    assert noted_backups(var) == {}
    (var / FILE).unlink()


def signs_of(url: str, minutes: int = 15) -> VitalSigns:
    engine = app_engine(url, pool_size=1)
    try:
        with reading(engine) as connection:
            return vital_signs(connection, minutes)
    finally:
        engine.dispose()


def test_a_change_that_nobody_shows_ages_and_a_lost_builder_is_missed(
    divided_database_url: str,
) -> None:
    assert signs_of(divided_database_url).behind_s == 0
    engine = app_engine(divided_database_url, pool_size=1)
    bring(engine, *inventory(3))
    send(engine, event("e0", "F0", "down", 0))
    engine.dispose()
    time.sleep(0.2)
    signs = signs_of(divided_database_url)
    assert 0.2 <= signs.behind_s < 60
    assert signs.shown_at is None
    assert signs.builders_leading == 0
    with psycopg.connect(libpq_url(divided_database_url)) as builder:
        builder.execute("SELECT pg_advisory_lock(%s)", (BUILDER_LOCK,))
        assert signs_of(divided_database_url).builders_leading == 1
    owner = owner_engine(divided_database_url)
    with owner.begin() as connection:
        connection.execute(text("UPDATE change SET received_at = received_at - interval '1 hour'"))
        connection.execute(
            text(
                "INSERT INTO source_latest SELECT 'tower', 'mast', NULL, NULL, received_at FROM change LIMIT 1"
            )
        )
    owner.dispose()
    signs = signs_of(divided_database_url)
    assert signs.behind_s > 3_590
    assert signs.silent == {"tower"}
    assert signs_of(divided_database_url, minutes=120).silent == frozenset()
