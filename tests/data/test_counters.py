"""Counters: folded, asked about any past moment, rebuilt; always what the states add up to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text

from data import counters
from data.counters import counters_at, counters_now, fold
from data.database import WHOLE_CITY, reading, sequence_at, set_scope
from data.divisions import version_at, versions
from data.facilities import retire_facilities
from data.recompute import rebuild_counters
from data.rulepacks import load_packs
from data.settings import SituationSettings
from data.situation import situation_now
from data.tables import MEASURES
from tests.data.stored import (
    NOON,
    assert_verified,
    bring,
    counted_now,
    event,
    inventory,
    measured,
    send,
)
from tests.feeds import INSIDE, NANAN, SHAPINGBA, YUZHONG, facility

Counted = dict[tuple[Any, ...], tuple[int, ...]]
STATES = ("up", "degraded", "down", "unknown")


def counted_at(engine: Engine, at: datetime, version_id: int | None = None) -> Counted:
    with reading(engine, snapshot=True) as connection:
        version = version_id or version_at(connection).id
        return measured(counters_at(connection, version, sequence_at(connection, at), at))


def received_at(engine: Engine) -> datetime:
    with reading(engine) as connection:
        found: datetime = connection.execute(text("SELECT max(received_at) FROM change")).scalar()
        return found


def contribution(row: dict[str, Any], adcode: str) -> Counted:
    """What a facility adds in its state at import; the key as in `counters_now`."""
    state, load, customers = row["state_at_import"], row["load_kw"], row["customers"]
    named = {"total": 1, "load_kw": load, "customers": customers}
    if state != "up":
        named |= {state: 1}
    if state in ("unknown", "down"):
        named |= {f"load_{state}_kw": load, f"customers_{state}": customers}
    key = (row["kind"], row["operator"], row["network"], row["main_grid"], False, adcode, adcode)
    return {key: tuple(named.get(m, 0) for m in MEASURES)}


def added(one: Counted, other: Counted) -> Counted:
    both = {
        key: tuple(
            a + b
            for a, b in zip(
                one.get(key, (0,) * len(MEASURES)),
                other.get(key, (0,) * len(MEASURES)),
                strict=True,
            )
        )
        for key in one.keys() | other.keys()
    }
    return {key: values for key, values in both.items() if any(values)}


class History:
    """Random changes of every kind, with what was shown after each."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine = engine
        self.rng = np.random.default_rng(seed)
        self.rows = {row["facility_id"]: row for row in inventory(20, seed)}
        self.shown: list[tuple[datetime, Counted]] = []
        self.backdated: list[tuple[datetime, datetime, Counted]] = []
        self.made = 0
        bring(engine, *self.rows.values())
        self.look()

    def look(self) -> None:
        self.shown.append((received_at(self.engine), counted_now(self.engine)))

    def step(self) -> None:
        doing = (self.report, self.report, self.report, self.edit, self.retire, self.load)
        self.rng.choice(np.array(doing, object))()
        if self.rng.random() < 0.7:
            self.look()
        else:  # published and not folded
            at = received_at(self.engine)
            with reading(self.engine, snapshot=True) as connection:
                now = version_at(connection).id
                frame = counters_at(connection, now, sequence_at(connection, None), at)
            self.shown.append((at, measured(frame)))

    def some(self, at_most: int) -> list[str]:
        ids = sorted(self.rows)
        return list(self.rng.choice(ids, min(at_most, len(ids)), replace=False))

    def report(self) -> None:
        ids = [*self.some(6), f"N{self.made + 1}", "NEVER"]  # N… waits for load()
        events = [
            event(f"e{self.made}-{f}", f, str(self.rng.choice(STATES)), int(self.rng.integers(60)))
            for f in ids
        ]
        self.made += 1
        send(self.engine, *events)

    def edit(self) -> None:
        for name in self.some(3):
            place = [*INSIDE.values()][int(self.rng.integers(3))]
            changes = {"lon": place[0], "lat": place[1], "load_kw": int(self.rng.integers(9_999))}
            if self.rng.random() < 0.3:
                changes["operator"] = "grid"
            self.rows[name] = self.rows[name] | changes
        bring(self.engine, *self.rows.values())

    def retire(self) -> None:
        retire_facilities(self.engine, self.some(2), account="p", body=b"r", reason="random")

    def load(self) -> None:
        """One new facility, often in force since before it was loaded; its events may wait."""
        name = f"N{self.made}"
        self.made += 1
        place = [*INSIDE][int(self.rng.integers(3))]
        row = facility(name, *INSIDE[place], load_kw=70, customers=7, state_at_import="down")
        self.rows[name] = row
        since: datetime | None = None
        if self.rng.random() < 0.7:
            since = self.shown[int(self.rng.integers(len(self.shown)))][0]
        bring(self.engine, row, valid_from=since)
        if since is not None:
            self.backdated.append((since, received_at(self.engine), contribution(row, place)))

    def expected(self) -> list[tuple[datetime, Counted]]:
        """What was shown, with what was in force by then but loaded later."""
        found = []
        for at, shown in self.shown:
            for since, loaded_at, contributed in self.backdated:
                if since <= at < loaded_at:
                    shown = added(shown, contributed)
            found.append((at, shown))
        return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("checkpoint_rows", [3, 50_000])
def test_any_past_moment_answers_what_was_shown_then(
    divided: Engine, monkeypatch: pytest.MonkeyPatch, seed: int, checkpoint_rows: int
) -> None:
    monkeypatch.setattr(counters, "CHECKPOINT_AFTER_ROWS", checkpoint_rows)
    history = History(divided, seed)
    for _ in range(25):
        history.step()
    history.look()
    assert len(history.backdated) > 0
    for at, expected in history.expected():
        assert counted_at(divided, at) == expected
    with reading(divided) as connection:
        made = connection.execute(
            text("SELECT count(DISTINCT sequence) FROM counter_checkpoint")
        ).scalar()
    assert made >= 5 if checkpoint_rows == 3 else made == 0
    assert_verified(divided)


@pytest.mark.parametrize("seed", [11, 12])
def test_rebuilding_the_counters_changes_no_answer(
    divided: Engine, divided_owner: Engine, seed: int
) -> None:
    history = History(divided, seed)
    for _ in range(20):
        history.step()
    history.look()
    with divided_owner.begin() as connection:
        assert rebuild_counters(connection) > 0
    for at, expected in history.expected():
        assert counted_at(divided, at) == expected
    assert counted_now(divided) == history.shown[-1][1]
    send(divided, event("after", "F1", "down", 100))
    assert_verified(divided)


def test_a_new_place_counts_everywhere_after_a_rebuild(
    divided: Engine, divided_owner: Engine
) -> None:
    """As after a new division version: placements are replaced, then the counters rebuilt."""
    bring(divided, facility("A", *INSIDE[YUZHONG], load_kw=5), facility("B", *INSIDE[NANAN]))
    send(divided, event("e1", "A", "down", 1))
    bring(divided, facility("A", *INSIDE[YUZHONG], load_kw=8), facility("B", *INSIDE[NANAN]))
    then = received_at(divided)
    with divided_owner.begin() as connection:
        set_scope(connection, WHOLE_CITY)
        place = connection.execute(
            text("SELECT placement_id FROM facility WHERE facility_id = 'B'")
        ).scalar_one()
        for table in ("facility", "facility_past"):
            connection.execute(text(f"UPDATE {table} SET placement_id = :p"), {"p": place})
        rebuild_counters(connection)
    for found in (counted_now(divided), counted_at(divided, then)):
        assert {key[5]: values[0] for key, values in found.items()} == {NANAN: 2}
    with divided_owner.begin() as connection:
        fold(connection)
    counted = {key[5]: values for key, values in counted_now(divided).items()}
    assert counted[NANAN][MEASURES.index("load_down_kw")] == 8


def test_the_situation_of_any_past_moment_is_what_was_shown_then(divided: Engine) -> None:
    packs, settings = load_packs(), SituationSettings()
    bring(divided, *inventory(40))
    shown: list[tuple[datetime, dict[str, Any]]] = []

    def look() -> None:
        shown.append((received_at(divided), situation_now(divided, packs, settings)))

    look()
    for i in range(8):
        states = ("down", "up", "degraded")
        send(divided, *(event(f"{i}-{f}", f"F{f}", states[(i + f) % 3], i) for f in range(i, 40)))
        look()
        if i == 3:
            bring(divided, *(row | {"load_kw": 77} for row in inventory(20)))
            look()
        if i == 5:
            retire_facilities(divided, ["F0", "F9"], account="p", body=b"r", reason="test")
            look()
        if i == 6:
            bring(divided, inventory(1)[0])
            look()
    for at, then in shown:
        assert situation_now(divided, packs, settings, at) == then
    assert len({doc["sequence"] for _, doc in shown}) == len(shown)


def test_folding_twice_or_with_nothing_new_changes_nothing(divided: Engine) -> None:
    bring(divided, *inventory(9))
    once = counted_now(divided)
    assert counted_now(divided) == once
    assert sum(values[0] for values in once.values()) == 9
    with divided.begin() as connection:
        assert fold(connection) == 1


def test_the_folder_waits_for_the_other_one(divided: Engine) -> None:
    bring(divided, *inventory(9))
    with divided.connect() as first:
        transaction = first.begin()
        fold(first)
        with divided.connect() as second, second.begin():
            second.execute(text("SET LOCAL lock_timeout = '200ms'"))
            with pytest.raises(Exception, match="lock timeout"):
                fold(second)
        transaction.commit()
    assert_verified(divided)


def test_every_division_version_counts_every_facility_once(divided: Engine) -> None:
    rows = inventory(16)
    bring(divided, *rows)
    send(divided, *(event(f"e{i}", f"F{i}", "down", 1) for i in range(0, 16, 2)))
    with divided.begin() as connection:
        fold(connection)
        for version in versions(connection):
            frame = counters_now(connection, version.id)
            assert frame["total"].sum() == 16
            assert frame["load_kw"].sum() == sum(row["load_kw"] for row in rows)
            assert frame["adcode"].isna().any()  # one place is outside the city
            assert {YUZHONG, SHAPINGBA, NANAN} <= set(frame["adcode"].dropna())


def test_before_anything_was_known_there_is_nothing(divided: Engine) -> None:
    bring(divided, *inventory(3))
    assert counted_at(divided, NOON - timedelta(days=1)) == {}


def test_states_are_never_deleted(divided: Engine, divided_owner: Engine) -> None:
    bring(divided, *inventory(3))
    refused: list[Callable[[Any], Any]] = [
        lambda c: c.execute(text("DELETE FROM facility_state")),
        lambda c: c.execute(text("DELETE FROM status_log")),
        lambda c: c.execute(text("INSERT INTO status_log_default SELECT * FROM status_log")),
        lambda c: c.execute(text("UPDATE counter_delta SET total = 0")),
        lambda c: c.execute(text("INSERT INTO counter_delta SELECT * FROM counter_delta")),
    ]
    for attempt in refused:
        with (
            pytest.raises(Exception, match=r"permission denied|never deleted"),
            divided.begin() as connection,
        ):
            attempt(connection)
    with pytest.raises(Exception, match="never deleted"), divided_owner.begin() as connection:
        connection.execute(text("DELETE FROM facility_state"))


def test_a_large_change_after_a_small_one_takes_time_in_its_size_not_its_square(
    divided: Engine,
) -> None:
    bring(divided, *inventory(30_000))
    with divided.begin() as connection:  # one session: the trigger keeps the plan of its first use
        connection.execute(text("SET LOCAL statement_timeout = '20s'"))
        change = "UPDATE facility_state SET state = 'down', batch_id = 1 WHERE facility_pk <= :upto"
        for upto in (1, 2, 3, 30_000):
            connection.execute(text(change), {"upto": upto})
        fold(connection)
        down = connection.execute(text("SELECT sum(down) FROM counter")).scalar()
    assert down == 30_000
