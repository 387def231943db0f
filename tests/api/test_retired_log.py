"""A month of the log of events is retired into a file: the present does not move, and the past
answers as it did."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from api.app import create_app
from api.cli import app as cli
from api.deps import Configuration
from data.accounts import first_run
from data.database import Scope, app_engine, owner_engine, reading
from data.log_retirement import retire_before
from data.retired_log import forget_unread, path_of, reach_back
from data.verify import verify
from geo.errors import Unavailable
from tests.api.conftest import served
from tests.data.stored import bring, inventory, send
from tests.feeds import INSIDE, YUZHONG, facility

FACILITIES = 80
STATES = ("up", "degraded", "down", "unknown")


class Past:
    """A database whose records are of months ago, and three moments between them."""

    def __init__(self, url: str, owner: Engine, api_key: str, title: str) -> None:
        self.url, self.owner, self.title = url, owner, title
        self.headers = {"X-API-Key": api_key}
        self.moments: list[datetime] = []

    @property
    def month(self) -> datetime:
        return datetime.strptime(self.title[-6:], "%Y%m").replace(tzinfo=UTC)

    @property
    def after_month(self) -> datetime:
        return (self.month + timedelta(days=32)).replace(day=1)

    def retire(self) -> Any:
        return retire_before(self.url, self.after_month.date(), ["substation"])


@pytest.fixture
def past(
    divided_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Past]:
    """Ten batches over an inventory, moved back to the middle of the month before the last."""
    monkeypatch.setenv("YUTU_VAR", str(tmp_path / "var"))
    engine = app_engine(divided_database_url, pool_size=2)
    owner = owner_engine(divided_database_url)
    bring(
        engine,
        *inventory(FACILITIES),
        *(facility(f"S{i}", *INSIDE[YUZHONG], kind="substation", load_kw=100) for i in range(5)),
    )
    rng = np.random.default_rng(5)
    for batch in range(10):
        events = [event(f"{batch}-{i}", f"F{rng.integers(FACILITIES)}", rng) for i in range(80)]
        events += [event(f"{batch}-s{i}", f"S{i}", rng) for i in range(5)]
        events.append(event(f"{batch}-w", f"later-{batch}", rng))  # its facility is not known yet
        send(engine, *events)
    today = datetime.now(UTC)
    target = (today.replace(day=1) - timedelta(days=40)).replace(day=15)
    title = f"status_log_{target:%Y%m}"
    move_back(owner, today - target, title, target)
    assert first_run(owner, tmp_path / "credentials.json")
    key = json.loads((tmp_path / "credentials.json").read_text())["commander"]["api_key"]
    made = Past(divided_database_url, owner, key, title)
    with owner.connect() as connection:
        times = list(
            connection.execute(text("SELECT received_at FROM change ORDER BY sequence")).scalars()
        )
    made.moments = [times[3], times[6], times[-1] + timedelta(days=2)]
    for batch in range(3):  # and of today
        send(
            engine,
            *(event(f"now-{batch}-{i}", f"F{rng.integers(FACILITIES)}", rng) for i in range(20)),
        )
    engine.dispose()
    yield made
    owner.dispose()


def event(event_id: str, facility_id: str, rng: np.random.Generator) -> dict[str, Any]:
    observed = datetime.now(UTC) - timedelta(minutes=int(rng.integers(0, 600)))
    return {
        "event_id": event_id,
        "facility_id": facility_id,
        "state": STATES[int(rng.integers(4))],
        "observed_at": observed.isoformat(),
        "cause": 'a "quoted", cause\nof two lines',
    }


def move_back(owner: Engine, by: timedelta, title: str, target: datetime) -> None:
    """Every time of every record, as if all of it had happened then."""
    starts = target.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    ends = (starts + timedelta(days=32)).replace(day=1)
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(
            text(
                f"CREATE TABLE {title} PARTITION OF status_log"
                f" FOR VALUES FROM ('{starts.isoformat()}') TO ('{ends.isoformat()}')"
            )
        )
        columns = connection.execute(
            text(
                "SELECT c.table_name, c.column_name FROM information_schema.columns c"
                " JOIN information_schema.tables t USING (table_schema, table_name)"
                " WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE'"
                " AND c.data_type = 'timestamp with time zone' AND c.table_name NOT LIKE 'status_log_%'"
                " AND c.table_name NOT IN ('division_version', 'district', 'unit', 'retired_month',"
                " 'audit')"  # it would tell
            )
        ).all()
        for table, column in columns:
            connection.execute(
                text(f"UPDATE {table} SET {column} = {column} - CAST(:by AS interval)"), {"by": by}
            )
        connection.execute(
            text(
                "UPDATE batch SET request = jsonb_set(request, '{valid_from}', to_jsonb("
                "((request ->> 'valid_from')::timestamptz - CAST(:by AS interval))::text))"
                " WHERE request ->> 'valid_from' IS NOT NULL"
            ),
            {"by": by},
        )


def in_log(owner: Engine, title: str) -> int:
    with owner.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM public.{title}")).scalar_one())


def answers(client: httpx.Client, past: Past, at: datetime) -> list[Any]:
    """What can be asked about a moment."""
    found = []
    for path in ("/v1/situation", "/v1/outages", "/v1/returns"):
        answer = client.get(path, params={"at": at.isoformat()}, timeout=60)
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
    region = {
        "type": "Polygon",
        "coordinates": [[[106, 29], [107, 29], [107, 30], [106, 30], [106, 29]]],
    }
    answer = client.post(
        "/v1/regions/query", json={"geometry": region, "at": at.isoformat()}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    found.append(answer.json())
    for metric, plan in (
        ("causes", "communications-2024"),
        ("share_down", "communications-2024"),
        ("level", "power-outage-2021"),
    ):
        span = {
            "from": (at - timedelta(hours=2)).isoformat(),
            "to": (at + timedelta(seconds=1)).isoformat(),
        }
        answer = client.get(
            "/v1/history", params={"metric": metric, "plan": plan, "every": "1h", **span}
        )
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["series"])
    return [without_areas(one) for one in found]


@contextmanager
def asking(past: Past) -> Iterator[httpx.Client]:
    """A client of a server on that database."""
    with (
        served(create_app(Configuration.load(past.url))) as url,
        httpx.Client(base_url=url, headers=past.headers, timeout=60) as client,
    ):
        yield client


def now_shown(past: Past) -> Any:
    """The newest situation, computed anew."""
    with asking(past) as client:
        wait_ready(client)
        shown = client.get("/v1/situation").json()
    return {name: value for name, value in shown.items() if name not in {"as_of", "now"}}


#: Area shares are sampled first and computed exactly in the background, in their own time.
BY_AREA = frozenset({"area_share", "population_affected", "population_affected_share", "method"})


def without_areas(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {k: without_areas(v) for k, v in answer.items() if k not in BY_AREA}
    return [without_areas(one) for one in answer] if isinstance(answer, list) else answer


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Where two answers differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for name in one:
            yield from differences(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{where}[{i}]")
    elif one != other:
        yield f"{where}: {str(one)[:80]} → {str(other)[:80]}"


def wait_ready(client: httpx.Client) -> None:
    for _ in range(600):
        if client.get("/ready").status_code == 200:
            return
        time.sleep(0.1)
    raise AssertionError("no situation is built")


def test_the_past_answers_as_before_and_the_present_does_not_move(past: Past) -> None:
    engine = app_engine(past.url, pool_size=2)
    with asking(past) as client:
        wait_ready(client)
        now = client.get("/v1/situation").json()
        before = [answers(client, past, at) for at in past.moments]
        verified = verify(past.owner)
        rows = in_log(past.owner, past.title)

        (done,) = past.retire()

        assert done.title == past.title
        assert done.events == rows == 10 * 86
        assert in_log(past.owner, past.title) == done.kept < rows / 2
        assert past.retire() == []  # once
        after = [answers(client, past, at) for at in past.moments]
        assert client.get("/v1/situation").json()["plans"] == now["plans"]
    assert before[0][0] != before[1][0]
    assert list(differences(before, after)) == []
    again = verify(past.owner)
    assert again.clean, "\n".join(again.lines())
    of_the_log = {"ledger", "log", "states"}
    assert {c.name: c.looked_at for c in again.checks if c.name in of_the_log} == {
        c.name: c.looked_at for c in verified.checks if c.name in of_the_log
    }
    assert verified.clean, "\n".join(verified.lines())
    # what comes later builds on what was kept
    bring(engine, *(facility(f"later-{i}", *INSIDE[YUZHONG]) for i in range(10)))
    rng = np.random.default_rng(6)
    send(engine, *(event(f"new-{i}", f"F{i}", rng) for i in range(40)))
    report = verify(past.owner)
    assert report.clean, "\n".join(report.lines())
    engine.dispose()


def test_a_new_process_shows_the_same_present_after_as_before(past: Past) -> None:
    before = now_shown(past)
    past.retire()
    after = now_shown(past)
    assert after["plans"] == before["plans"]
    assert after["districts"] == before["districts"]


def test_a_month_is_read_back_once_and_forgotten_when_nobody_asks(past: Past) -> None:
    past.retire()
    engine = app_engine(past.url, pool_size=12)

    def ask(_: int) -> tuple[int, str]:
        with reading(engine, Scope(("500103",)), snapshot=True) as connection:
            reach_back(connection, past.moments[0], past.moments[0])
            found = connection.execute(text("SELECT count(*) FROM status_log"))
            scope = connection.execute(text("SELECT current_setting('app.districts')"))
            return int(found.scalar_one()), str(scope.scalar_one())

    with ThreadPoolExecutor(5) as pool:
        assert set(pool.map(ask, range(5))) == {(10 * 86 + 60, "500103")}
    with reading(engine) as connection:  # nobody else sees it
        assert connection.execute(text("SELECT count(*) FROM status_log")).scalar_one() < 10 * 86
    assert forget_unread(engine) == 0
    assert forget_unread(engine, kept_for_s=0) == 1
    with past.owner.connect() as connection:
        left = connection.execute(text("SELECT count(*) FROM archive.status_row")).scalar_one()
    assert left == 0
    assert ask(0) == (10 * 86 + 60, "500103")
    engine.dispose()


@pytest.mark.parametrize("harm", ["gone", "changed", "cut"])
def test_a_lost_or_changed_file_is_said_and_never_guessed_around(past: Past, harm: str) -> None:
    past.retire()
    path = path_of(past.title)
    whole = path.read_bytes()
    if harm == "gone":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        rows = gzip.decompress(whole).replace(b",down,", b",up,", 1)
        path.write_bytes(gzip.compress(rows))
    with asking(past) as client:
        answer = client.get("/v1/situation", params={"at": past.moments[0].isoformat()})
        assert answer.status_code == 503
        assert past.title in answer.json()["detail"]
        later = client.get("/v1/situation", params={"at": past.moments[2].isoformat()})
        assert later.status_code == 503  # the same month
    report = verify(past.owner)
    assert not report.clean
    assert past.title in report.checks[0].examples[0]
    path.write_bytes(whole)
    assert verify(past.owner).clean


def test_the_running_month_stays_and_a_log_in_use_is_not_waited_for_long(past: Past) -> None:
    url = past.url
    assert retire_before(url, datetime.now(UTC).date() + timedelta(days=400), ["substation"])
    with past.owner.connect() as connection:
        titles = list(connection.execute(text("SELECT title FROM retired_month")).scalars())
    assert f"status_log_{datetime.now(UTC):%Y%m}" not in titles
    assert past.title in titles


def test_a_retirement_that_cannot_have_the_log_leaves_everything(past: Past) -> None:
    rows = in_log(past.owner, past.title)
    with past.owner.connect() as connection:
        connection.execute(text(f"LOCK TABLE {past.title} IN ACCESS SHARE MODE"))
        with pytest.raises(Unavailable, match="not now"):
            past.retire()
        connection.rollback()
    assert in_log(past.owner, past.title) == rows
    assert len(past.retire()) == 1


def test_the_command_retires_and_says_what(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUTU_DATABASE_URL", past.url)
    command = ["db", "retire", "--before", f"{past.after_month:%Y-%m-%d}"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert f"{past.title}: 860 events in" in done.output
    again = CliRunner().invoke(cli, command)
    assert again.output == "no month to retire\n"
    assert CliRunner().invoke(cli, ["db", "verify"]).exit_code == 0
