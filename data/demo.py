"""The demonstration: loaded into an empty database only, played once, cleared without erasing.

Playing sends the steps of `data.demo_scenario` by `data.demo_player`. All times are past: the
event's last minute is the start of playing. Ids follow from the play's own number, so a play that
was killed goes on where it stopped, and sending a step again changes nothing. What was begun,
finished and cleared stands in batches of the channel `demo`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import pandas as pd
from sqlalchemy import Connection, Engine, text

from data.database import reading, writing
from data.demo_player import USERNAME, Player, close_event, edit, send_outage
from data.demo_scenario import DISTRICTS, LENGTH_MINUTES, storm
from data.divisions import districts_frame, require_divisions, versions
from data.facilities import Imported, import_facilities, retire_facilities
from data.incidents import OPEN_STATES
from data.inventory import make_inventory
from data.readers.boundaries import BEIJING_TIME
from data.rulepacks import RulePacks, load_packs
from data.settings import DatabaseSettings, DemoSettings
from data.status import ingest_status
from geo.errors import Conflict, Unavailable

FACILITIES: Final = 100_000
SEED: Final = 2026
MINUTES_PER_SECOND: Final = 5.0
#: The made-up inventory counts as having always been there, so that the past can be asked about.
IN_FORCE_FROM: Final = datetime(2020, 1, 1, tzinfo=BEIJING_TIME)

_CHANNEL: Final = "demo"
_PLAY_LOCK: Final = 7120
_RETIRED_AT_ONCE: Final = 20_000


def check_allowed(database: DatabaseSettings, demo: DemoSettings) -> None:
    """Raise Conflict, with the remedy, where demonstration data may not go."""
    if demo.wanted(database):
        return
    if demo.demo is False:
        raise Conflict("YUTU_DEMO=0 forbids the demonstration; unset it to allow it here")
    raise Conflict("YUTU_DATABASE_URL is set: the demonstration goes there only with YUTU_DEMO=1")


# --- loading and clearing -------------------------------------------------------------------------


def load_demo(engine: Engine, facilities: int = FACILITIES, seed: int = SEED) -> Imported:
    """Store a synthetic inventory; durable on return.

    Raises Conflict when the database has any facility in force, InvalidInput for the number.
    """
    with reading(engine) as connection:
        require_divisions(connection)
        if _in_force(connection):
            raise Conflict("the database has facilities; demonstration data load into an empty one")
        frames = [districts_frame(connection, version.id) for version in versions(connection)]
    inventory = make_inventory(facilities, seed, frames)
    recipe = {"what": "inventory", "facilities": facilities, "seed": seed}
    return import_facilities(
        engine,
        inventory,
        account=USERNAME,
        body=orjson.dumps(recipe),
        content_type="application/json",
        valid_from=IN_FORCE_FROM,
        request=recipe,
    )


def _in_force(connection: Connection) -> bool:
    found = connection.execute(text("SELECT 1 FROM facility WHERE retired_at IS NULL LIMIT 1"))
    return found.first() is not None


def clear_demo(engine: Engine, packs: RulePacks | None = None) -> int:
    """Take every synthetic facility out of force and end what a play left open. Returns how many.

    Nothing is erased: the past can still be asked about.
    """
    with _playing_alone(engine):
        rules = packs or load_packs()
        with reading(engine) as connection:
            last = _last_mark(connection)
        _restore(engine)  # first: what is still lost when an event closes opens the next one
        if last is not None and last["what"] == "play":
            _end(engine, rules)
        retired = 0
        while True:
            with reading(engine) as connection:
                ids = list(
                    connection.execute(
                        text(
                            "SELECT facility_id FROM facility WHERE synthetic"
                            " AND retired_at IS NULL ORDER BY facility_id LIMIT :n"
                        ),
                        {"n": _RETIRED_AT_ONCE},
                    ).scalars()
                )
            if not ids:
                break
            retired += retire_facilities(
                engine, ids, account=USERNAME, body=b"", reason="demonstration cleared"
            )
        if retired or last is not None:
            _mark(engine, {"what": "cleared"})
    return retired


def _restore(engine: Engine) -> None:
    """Leave no synthetic facility in another state than up, should it come back into force."""
    with reading(engine) as connection:
        rows = connection.execute(
            text(
                "SELECT f.facility_id, s.state, to_char(greatest(now(), s.observed_at"
                " + interval '1 millisecond') AT TIME ZONE 'UTC',"
                ' \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\') AS observed_at'
                " FROM facility f JOIN facility_state s ON s.facility_pk = f.pk"
                " WHERE f.synthetic AND f.retired_at IS NULL AND s.state <> 'up'"
                " ORDER BY f.facility_id"
            )
        ).all()
    for start in range(0, len(rows), _RETIRED_AT_ONCE):
        events = [
            {
                "event_id": str(uuid.uuid4()),
                "facility_id": row.facility_id,
                "state": "up",
                "observed_at": row.observed_at,
                "cause": "demonstration cleared",
            }
            for row in rows[start : start + _RETIRED_AT_ONCE]
        ]
        ingest_status(engine, events, body=orjson.dumps(events), account=USERNAME)


def _end(engine: Engine, packs: RulePacks) -> None:
    """Resolve and close what an unfinished play began."""
    with reading(engine) as connection:
        rows = connection.execute(
            text(
                "SELECT DISTINCT ON (i.incident_id) i.incident_id, r.version, r.state"
                " FROM incident i JOIN incident_revision r USING (incident_id)"
                " WHERE i.account = :account ORDER BY i.incident_id, r.version DESC"
            ),
            {"account": USERNAME},
        ).all()
        outages = connection.execute(
            text(
                "SELECT DISTINCT ON (outage_id) feature, revision, restored_at, now() AS now"
                " FROM outage WHERE account = :account ORDER BY outage_id, revision DESC"
            ),
            {"account": USERNAME},
        ).all()
    for row in rows:
        if row.state in OPEN_STATES:
            edit(engine, row.incident_id, row.version, {"state": "resolved"}, packs)
    for row in outages:
        if row.restored_at is None:
            over = {"revision": row.revision + 1, "restored_at": row.now.isoformat()}
            send_outage(engine, {**row.feature, "properties": row.feature["properties"] | over})
    close_event(engine, "demonstration cleared")


# --- playing --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Played:
    """What a play did: steps sent, and how many of them changed something."""

    steps: int
    fresh: int


def play(
    engine: Engine,
    minutes_per_second: float | None = MINUTES_PER_SECOND,
    *,
    seed: int = SEED,
    packs: RulePacks | None = None,
    after_minute: Callable[[int], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Played:
    """Play the demonstration event once; go on with one that was interrupted.

    `minutes_per_second` None sends the steps as fast as they are stored. `after_minute` is called
    with each minute after its steps. Nothing is done when the event was played before. Raises
    Conflict without a synthetic inventory, Unavailable while another process plays.
    """
    with _playing_alone(engine):
        with reading(engine) as connection:
            mark = _last_mark(connection)
        if mark is not None and mark["what"] == "finished":
            return Played(0, 0)
        begun = mark is not None and mark["what"] == "play"
        steps = storm(_inventory(engine), mark["seed"] if mark and begun else seed)
        if mark is None or not begun:
            mark = _begin(engine, seed)
        player = Player(engine, mark, packs or load_packs())
        fresh, paced_from = 0, None
        for minute in sorted({step.minute for step in steps}):
            if minutes_per_second and paced_from is not None:
                started, first = paced_from
                due = started + (minute - first) / minutes_per_second
                sleep(max(0.0, due - time.monotonic()))
            sent = [player.send(step) for step in steps if step.minute == minute]
            fresh += sum(sent)
            if any(sent) and paced_from is None:
                paced_from = (time.monotonic(), minute)  # what was sent before is not waited for
            if after_minute is not None:
                after_minute(minute)
        _mark(engine, {"what": "finished", "play": mark["play"]})
    return Played(len(steps), fresh)


@contextmanager
def _playing_alone(engine: Engine) -> Iterator[None]:
    """Held by one process at a time, and given back by the database when it dies."""
    with engine.connect() as connection:
        key = {"key": _PLAY_LOCK}
        held = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), key).scalar_one()
        connection.commit()
        if not held:
            raise Unavailable("another process is playing or clearing the demonstration", 10)
        try:
            yield
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)
            connection.commit()


def _last_mark(connection: Connection) -> dict[str, Any] | None:
    row = connection.execute(
        text("SELECT id, request FROM batch WHERE channel = :c ORDER BY id DESC LIMIT 1"),
        {"c": _CHANNEL},
    ).one_or_none()
    return None if row is None else {"play": row.id, **row.request}


def _mark(engine: Engine, mark: dict[str, Any]) -> int:
    body = orjson.dumps(mark)
    with writing(engine, channel=_CHANNEL, account=USERNAME, body=body, request=mark) as write:
        write.kind = "demo"
        write.detail = {"what": mark["what"]}
    return write.batch_id


def _begin(engine: Engine, seed: int) -> dict[str, Any]:
    """The mark of a new play, stored."""
    with reading(engine) as connection:
        # An earlier play's last word stands; this one has to speak of later moments.
        row = connection.execute(
            text(
                "SELECT clock_timestamp() AS now, greatest((SELECT max(s.observed_at)"
                " FROM facility_state s JOIN facility f ON f.pk = s.facility_pk"
                " WHERE f.synthetic AND s.observed_at > '-infinity'),"
                " (SELECT max(h.received_at) FROM plan_facts p JOIN change h USING (batch_id)"
                " WHERE p.close_event)) AS spoken_of"
            )
        ).one()
    length = timedelta(minutes=LENGTH_MINUTES)
    base = row.now - length
    if row.spoken_of is not None:
        base = max(base, row.spoken_of + timedelta(milliseconds=1))
    mark = {
        "what": "play",
        "base": base.astimezone(UTC).isoformat(),
        "minute_s": (row.now - base) / length * 60.0,
        "seed": seed,
    }
    return {"play": _mark(engine, mark), **mark}


def _inventory(engine: Engine) -> pd.DataFrame:
    """The synthetic facilities in force of the districts the storm reaches."""
    with reading(engine) as connection:
        result = connection.execute(
            text(
                "SELECT facility_id, kind, adcode, ST_X(geom) AS lon, ST_Y(geom) AS lat, load_kw,"
                " customers, feeds_from, battery_hours, attributes ->> 'equipment' AS equipment"
                " FROM facility WHERE synthetic AND retired_at IS NULL AND adcode = ANY (:codes)"
                " ORDER BY facility_id"
            ),
            {"codes": list(DISTRICTS)},
        )
        inventory = pd.DataFrame(result.all(), columns=list(result.keys()))
    if inventory.empty:
        raise Conflict("there is no synthetic inventory to play on; run `yutu demo load` first")
    return inventory
