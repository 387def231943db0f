"""The builder: one process folds, computes the situation and stores its bytes for all others.

Whoever holds the session lock builds, at most `builds_per_second` times a second, when a change is
announced, or when the clock alone changes a grade (stranding, silence): then it records a tick, a
change of its own. Stream events are written here, in order of sequence.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

import orjson
import psycopg
import structlog
from sqlalchemy import Connection, Engine, text

from data.counters import fold
from data.database import WHOLE_CITY, libpq_url, publish, set_scope
from data.power_memory import PowerMemory
from data.rulepacks import RulePacks
from data.settings import SituationSettings
from data.situation import AreaShares, Moment, Shown, document, shown_at
from geo.coverage_grid import SAMPLING_ERROR

BUILDER_LOCK = 7106
LANGUAGES = ("zh", "en")
#: Stored situations kept; any older one is computed again from what was known (`?at=`).
KEPT = 200
#: Without any announcement the builder looks by itself, in seconds.
POLL_S = 1.0
#: How soon a waiting thread notices that it is to stop, in seconds.
STOP_LOOK_S = 0.2
#: How often the partitions of the coming months are made sure of, in seconds.
PARTITIONS_S = 6 * 3600.0

log = structlog.get_logger()


class LiveAreaShares(AreaShares, Protocol):
    """Area shares that come to be known without any change being published."""

    @property
    def revision(self) -> int:
        """Grows when more can be said than before."""
        ...

    @property
    def settled(self) -> bool:
        """Whether everything the newest situation asked for can be said."""
        ...

    def told(self, sequence: int) -> None:
        """What was given last for now is what the situation stored under `sequence` has."""
        ...


class Builder(threading.Thread):
    """A daemon thread; every API process runs one, and one of them at a time holds the lock."""

    def __init__(
        self,
        engine: Engine,
        url: str,
        packs: RulePacks,
        settings: SituationSettings,
        area: LiveAreaShares | None = None,
    ) -> None:
        super().__init__(name="builder", daemon=True)
        self._engine = engine
        self._url = libpq_url(url)
        self._packs = packs
        self._settings = settings
        self.area = area
        self._area_revision = 0
        self._power = PowerMemory()
        self._stopping = threading.Event()
        self._built: Shown | None = None
        #: What the newest stored situation says, as far as a tick must differ from it.
        self._told: dict[str, Any] = {}
        self.beat_at = time.monotonic()

    def stop(self) -> None:
        """Ask the thread to end; it does so at once, or when its build is done."""
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True) as connection:
                    self._serve(connection)
            except Exception as error:  # the builder must outlive any database fault
                log.warning("builder_retries", error=type(error).__name__, detail=str(error)[:300])
                self._stopping.wait(1.0)

    def _serve(self, connection: psycopg.Connection[Any]) -> None:
        while not self._stopping.is_set():
            self.beat_at = time.monotonic()
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (BUILDER_LOCK,)).fetchone()
            if row and row[0]:
                log.info("builder_leads")
                self._built = None
                self._lead(connection)
                return
            self._stopping.wait(POLL_S)

    def _lead(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute("LISTEN yutu")  # not before: nobody would take the notices away
        apart_s = 1.0 / self._settings.builds_per_second
        partitions_due = 0.0
        while not self._stopping.is_set():
            started = time.monotonic()
            self.beat_at = started
            if started >= partitions_due:
                connection.execute("SET ROLE yutu_app; SELECT ensure_status_partitions()")
                partitions_due = started + PARTITIONS_S
            self.build_once()
            took_s = time.monotonic() - started
            # as long as it took it rests, so that requests have the process at least half the time
            self._stopping.wait(max(took_s, apart_s - took_s))
            await_notice(connection, self._patience_s(), self._stopping)

    def _patience_s(self) -> float:
        """How long to wait for an announcement: no longer than until the clock matters."""
        due = self._built.next_clock_at if self._built else None
        if due is None:
            return POLL_S
        left = (due - datetime.now(due.tzinfo)).total_seconds()
        return min(POLL_S, max(0.02, left))

    def build_once(self) -> int | None:
        """Fold and, if anything changed or the clock is due, store a situation. Its sequence."""
        revision = self.area.revision if self.area else 0
        with self._engine.connect() as connection, connection.begin():
            set_scope(connection, WHOLE_CITY)
            sequence = fold(connection)
            previous = self._built
            row = connection.execute(
                text(
                    "SELECT clock_timestamp() AS now,"
                    " (SELECT received_at FROM change WHERE sequence = :n) AS as_of,"
                    " (SELECT max(sequence) FROM situation_bytes) AS stored"
                ),
                {"n": sequence},
            ).one()
            due = previous is not None and (
                previous.next_clock_at is not None and previous.next_clock_at <= row.now
            )
            fresh = previous is None or previous.moment.sequence != sequence
            learnt = revision != self._area_revision
            if not fresh and not due and not learnt:
                return None
            moment = Moment(sequence, row.as_of or row.now, None, row.now, folded=True)
            shown = shown_at(
                connection, moment, self._packs, self._settings, self.area, self._power
            )
            if row.stored == sequence:  # no change since: after a start, or when the clock is due
                if fresh:
                    self._told = _stored(connection, sequence)
                told = _telling(document(shown))
                if self.area is not None and not self.area.settled:
                    told = _with_areas_of(self._told, told)
                if told == self._told:
                    self._keep(shown, revision)
                    return sequence if fresh else None
                # Another change may come in between: the tick is built like any other change.
                publish(connection, "tick", {"levels": shown.result.levels()})
                ticked = True
            else:
                self._store(connection, shown, row.stored or 0)
                self._told = _telling(document(shown))
                ticked = False
        if ticked:
            return self.build_once()
        self._keep(shown, revision)
        return sequence

    def _keep(self, shown: Shown, revision: int) -> None:
        """This situation is the stored one."""
        self._built, self._area_revision = shown, revision
        if self.area is not None:
            self.area.told(shown.moment.sequence)

    def _store(self, connection: Connection, shown: Shown, before: int) -> None:
        """Bytes per language, the stream's events since `before`, and the announcement."""
        sequence, levels = shown.moment.sequence, shown.result.levels()
        whole = document(shown)
        for lang in LANGUAGES:
            body = orjson.dumps(localised(whole, lang))
            connection.execute(
                text(
                    "INSERT INTO situation_bytes (sequence, lang, as_of, etag, body, levels)"
                    " VALUES (:sequence, :lang, :as_of, :etag, :body, CAST(:levels AS jsonb))"
                    " ON CONFLICT DO NOTHING"
                ),
                {
                    "sequence": sequence,
                    "lang": lang,
                    "as_of": shown.moment.as_of,
                    "etag": f'"{sequence}-{lang}-{hashlib.sha256(body).hexdigest()[:16]}"',
                    "body": body,
                    "levels": orjson.dumps(levels).decode(),
                },
            )
        connection.execute(
            text("DELETE FROM situation_bytes WHERE sequence <= :old"), {"old": sequence - KEPT}
        )
        connection.execute(
            text(
                "INSERT INTO stream_event (sequence, kind, adcode, payload)"
                " SELECT sequence, 'incident', e.told ->> 'adcode',"
                "  e.told || jsonb_build_object('sequence', sequence) FROM change"
                "  CROSS JOIN LATERAL jsonb_array_elements("
                "   coalesce(detail -> 'events', jsonb_build_array(detail)))"
                "  WITH ORDINALITY AS e(told, n)"
                " WHERE kind = 'incident' AND sequence > :before AND sequence <= :upto"
                " ORDER BY sequence, e.n"
            ),
            {"before": before, "upto": sequence},
        )
        payload = {
            "sequence": sequence,
            "as_of": shown.moment.as_of.isoformat(),
            "levels": levels,
        }
        connection.execute(
            text(
                "INSERT INTO stream_event (sequence, kind, payload)"
                " SELECT :sequence, 'situation', CAST(:payload AS jsonb) WHERE NOT EXISTS"
                " (SELECT 1 FROM stream_event WHERE sequence = :sequence AND kind = 'situation')"
            ),
            {"sequence": sequence, "payload": orjson.dumps(payload).decode()},
        )
        connection.execute(text("SELECT pg_notify('yutu_shown', :n)"), {"n": str(sequence)})


def localised(whole: dict[str, Any], lang: str) -> dict[str, Any]:
    """The document in a language: names of districts, where an English one is known."""
    if lang == "zh":
        return whole
    english = {d["adcode"]: d["name_en"] or d["name"] for d in whole["districts"]}
    return {
        **whole,
        "districts": [{**d, "name": english[d["adcode"]]} for d in whole["districts"]],
        "units": [{**u, "name": english.get(u["code"], u["name"])} for u in whole["units"]],
    }


def await_notice(
    connection: psycopg.Connection[Any], patience_s: float, stopping: threading.Event
) -> None:
    """Wait for a notice on a listening connection, at most so many seconds, or until `stopping`."""
    until = time.monotonic() + patience_s
    while not stopping.is_set() and (left := until - time.monotonic()) > 0:
        for _ in connection.notifies(timeout=min(left, STOP_LOOK_S), stop_after=1):
            return


def _telling(whole: Mapping[str, Any]) -> dict[str, Any]:
    """What a tick must change to be worth a sequence: levels, reasons, bounds, what is lost now,
    who is silent. A value that merely moves with the clock is not. As it is once stored."""
    plans = {
        plan: (
            a["level"],
            a["bounds"],
            [(f["clause"], f.get("incident_id"), f["districts"]) for f in a["findings"]],
            a.get("current"),
        )
        for plan, a in whole["plans"].items()
    }
    silent = [(s["operator"], s["kind"], s["silent"]) for s in whole["sources"]]
    told = {"plans": plans, "districts": whole["districts"], "silent": silent}
    read: dict[str, Any] = orjson.loads(orjson.dumps(told))
    return read


def _stored(connection: Connection, sequence: int) -> dict[str, Any]:
    """`_telling` of the situation stored at a sequence, by whichever process or run; empty, and so
    unlike any, if another version of the program stored it in another form."""
    body = connection.execute(
        text("SELECT body FROM situation_bytes WHERE sequence = :n AND lang = 'zh'"),
        {"n": sequence},
    ).scalar_one()
    try:
        return _telling(orjson.loads(bytes(body)))
    except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError):
        return {}


def _with_areas_of(before: Mapping[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """`told` with the area shares it cannot give yet, while grids are read and exact shares
    computed after a start, as they were: what is not known for a moment has not changed."""
    known = {d["adcode"]: d for d in before.get("districts", ())}
    districts = []
    for district in told["districts"]:
        was = known.get(district["adcode"], district)
        then, now = was.get("area_share", {}), district["area_share"]
        shares = {**then, **{k: _better(then.get(k, one), one) for k, one in now.items()}}
        people = district["population_affected"]
        if people is None or shares == then:
            people = was.get("population_affected")
        districts.append({**district, "area_share": shares, "population_affected": people})
    return {**told, "districts": districts}


def _better(then: Mapping[str, Any], now: Mapping[str, Any]) -> Mapping[str, Any]:
    """The exact share of before, where the sampled one of now does not contradict it."""
    if (then.get("method"), now["method"]) == ("exact", "sampled") and all(
        abs(then[name] - now[name]) <= SAMPLING_ERROR for name in ("any", "all")
    ):
        return then
    return now
