"""Sending the demonstration's steps through the same functions as any other source.

Times and ids follow from the play's mark, so a step that was sent before is known again: sending it
twice changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
from sqlalchemy import Engine, text

from data.accounts import Account
from data.database import CITY, reading
from data.demo_scenario import (
    POWER,
    SPECIAL_EQUIPMENT,
    EventClose,
    IncidentReport,
    IncidentUpdate,
    OutageReport,
    StatusReport,
    Step,
)
from data.incident_submission import edit_incident, read_change, store_incident
from data.incidents import IncidentSettings
from data.outages import store_outage
from data.plan_facts import Declaration, declared_facts, store_facts
from data.rulepacks import RulePacks
from data.status import ingest_status
from geo.errors import InvalidInput, VersionMismatch

USERNAME: Final = "demo"
_ACCOUNT: Final = Account(USERNAME, "commander", CITY)
_NAMES: Final = uuid.UUID("6f0d5c1e-8b7a-5a39-9d52-2d1a4c7e9b10")


class Player:
    """Sends the steps of one play, whose mark says `play`, `base` and `minute_s`."""

    def __init__(self, engine: Engine, mark: Mapping[str, Any], packs: RulePacks) -> None:
        self._engine = engine
        self._packs = packs
        self._play = int(mark["play"])
        self._base = datetime.fromisoformat(mark["base"])
        self._minute = timedelta(seconds=float(mark["minute_s"]))
        #: Incident → its version after the steps sent so far.
        self._versions: dict[str, int] = {}

    def _time(self, minute: int) -> str:
        return (self._base + minute * self._minute).isoformat()

    def _incident_id(self, key: str) -> uuid.UUID:
        return uuid.uuid5(_NAMES, f"{self._base.isoformat()}/{self._play}/{key}")

    def send(self, step: Step) -> bool:
        """Whether the step changed anything. Steps are sent in their order."""
        match step:
            case StatusReport():
                return self._status(step)
            case OutageReport():
                return self._outage(step)
            case IncidentReport():
                return self._incident(step)
            case IncidentUpdate():
                return self._update(step)
            case EventClose():
                return close_event(self._engine, step.reason)

    def _status(self, step: StatusReport) -> bool:
        if not step.facility_ids:
            return False
        events = [
            {
                "event_id": f"demo-{self._play}-{step.minute}-{step.state}-{facility_id}",
                "facility_id": facility_id,
                "state": step.state,
                "observed_at": self._time(step.minute),
                "cause": step.cause,
            }
            for facility_id in step.facility_ids
        ]
        receipt = ingest_status(
            self._engine, events, body=orjson.dumps(events), account=USERNAME, operators=CITY
        )
        if receipt.rejected:
            raise InvalidInput(receipt.rejected)
        return receipt.accepted > 0

    def _outage(self, step: OutageReport) -> bool:
        restored = step.restored_minute
        feature = {
            "type": "Feature",
            "geometry": step.geometry,
            "properties": {
                "outage_id": f"demo-{self._play}-{step.key}",
                "revision": step.revision,
                "operator": "state_grid",
                "facility_ids": list(step.facility_ids),
                "load_shed_kw": step.load_shed_kw,
                "customers_out": step.customers_out,
                "started_at": self._time(step.started_minute),
                "restored_at": None if restored is None else self._time(restored),
                "cause": "暴风雨 (storm)",
                "planned": False,
                "main_grid": True,
            },
        }
        return send_outage(self._engine, feature)

    def _incident(self, step: IncidentReport) -> bool:
        body = {
            "incident_id": str(self._incident_id(step.key)),
            "plan": SPECIAL_EQUIPMENT,
            "kind": "elevator",
            "occurred_at": self._time(step.occurred_minute),
            "position": list(step.position),
            "crs": "WGS84",
            "facility_id": step.facility_id,
            "description": step.description,
            "facts": step.facts,
            "source": "demonstration",
        }
        stored = store_incident(
            self._engine,
            body,
            body=orjson.dumps(body),
            account=_ACCOUNT,
            packs=self._packs,
            settings=IncidentSettings.load(),
        )
        self._versions[step.key] = 1
        return stored.status == "created"

    def _update(self, step: IncidentUpdate) -> bool:
        version = self._versions[step.key]
        self._versions[step.key] = version + 1
        change = {"state": step.state, "facts": step.facts, "reason": step.reason}
        return edit(self._engine, self._incident_id(step.key), version, change, self._packs)


def send_outage(engine: Engine, feature: dict[str, Any]) -> bool:
    """Whether this revision of an outage (GeoJSON, WGS-84) is new."""
    body = orjson.dumps(feature)
    return (
        store_outage(engine, feature, body=body, account=USERNAME, crs="WGS84").status == "created"
    )


def edit(
    engine: Engine, incident_id: uuid.UUID, version: int, change: dict[str, Any], packs: RulePacks
) -> bool:
    """Whether the incident was edited; not where another edit came before."""
    try:
        edit_incident(
            engine,
            incident_id,
            read_change(change),
            expected_version=version,
            body=orjson.dumps(change),
            account=_ACCOUNT,
            packs=packs,
            settings=IncidentSettings.load(),
        )
    except VersionMismatch:
        return False  # sent before it was interrupted, or a person's own edit, which stands
    return True


def close_event(engine: Engine, reason: str) -> bool:
    """Confirm the power event's end; the facts that people declared stay as they are."""
    with reading(engine) as connection:
        sequence = connection.execute(text("SELECT max(sequence) FROM change")).scalar() or 0
        facts = declared_facts(connection, POWER, sequence)
    body = {"facts": facts, "reason": reason, "close_event": True}
    store_facts(
        engine,
        POWER,
        Declaration(facts, reason, close_event=True),
        body=orjson.dumps(body),
        account=USERNAME,
    )
    return True
