"""Work orders of the 12345 hotline: incidents made from them, who was told, and how it stands.

An order's number belongs to the first incident that names it; a later incident with the same number
is linked to it and overwrites nothing. Callers are restricted like reporters: they stay in the body
that was sent and are shown to those who read reporters, and to whoever submitted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from data.accounts import Account
from data.database import Write, reading, writing
from data.fields import Fields, require_object
from data.incidents import ONE, READS_REPORTERS, set_reader
from data.tables_relay import EMERGENCY_LINES
from geo.errors import Fault, InvalidInput, NotAllowed, NotFound

ORDER_NUMBER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LOCK = 7114


@dataclass(frozen=True)
class Told:
    """Which emergency line and unit was told, and when; when the city office was informed."""

    line: str | None
    unit: str | None
    told_at: datetime | None
    city_office_informed_at: datetime | None

    @property
    def empty(self) -> bool:
        return self.line is None and self.city_office_informed_at is None


@dataclass(frozen=True)
class HotlineOrder:
    """The `hotline` member of an incident, as far as it is linked; the rest stays in its body."""

    order_number: str
    told: Told


def read_order(read: Fields, now: datetime) -> HotlineOrder | None:
    """The member `hotline` of an incident's body; None without one. Notes every fault."""
    given = read.raw("hotline")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        read.fault("hotline", "must be an object with order_number")
        return None
    inside = Fields(given, read.faults, prefix="hotline.")
    number = inside.identifier("order_number", required=True)
    if number is not None and not ORDER_NUMBER.fullmatch(number):
        inside.fault("order_number", "must be letters, digits, points, dashes; at most 64")
    inside.words("category", characters_max=200)
    inside.words("address_text", characters_max=500)
    inside.time("received_at")
    inside.truth("life_safety", False)
    caller = inside.raw("caller")
    if caller is not None and not isinstance(caller, Mapping):
        inside.fault("caller", "must be an object with name and phone")
    elif caller is not None:
        person = Fields(caller, read.faults, prefix="hotline.caller.")
        person.words("name", characters_max=100)
        person.words("phone", characters_max=40)
        if set(caller) - {"name", "phone"}:
            inside.fault("caller", "has members beside name and phone")
    told = _read_told(inside, now)
    return None if number is None else HotlineOrder(number, told)


def read_told(body: Any, now: datetime) -> Told:
    """{emergency_line, unit, told_at, city_office_informed_at}. Raises InvalidInput."""
    faults: list[Fault] = []
    told = _read_told(Fields(require_object(body, "a notice"), faults), now)
    if told.empty and not faults:
        faults.append(Fault("says neither which unit was told nor that the city office was"))
    if faults:
        raise InvalidInput(faults)
    return told


def _read_told(read: Fields, now: datetime) -> Told:
    told = Told(
        read.choice("emergency_line", EMERGENCY_LINES),
        read.words("unit", characters_max=200),
        read.time("told_at"),
        read.time("city_office_informed_at"),
    )
    call = (told.line, told.unit, told.told_at)
    if any(one is not None for one in call) and not all(call):
        read.fault("emergency_line", "line, unit and told_at belong together")
    for name in ("told_at", "city_office_informed_at"):
        when = getattr(told, name)
        if when is not None and when > now:
            read.fault(name, "lies ahead; check the clock")
    return told


def link_order(write: Write, incident_id: UUID, order: HotlineOrder, account: Account) -> None:
    """Link a new incident to its order, first or again, and keep who was told."""
    connection = write.connection
    connection.execute(
        text("SELECT pg_advisory_xact_lock(:lock, hashtext(:number))"),
        {"lock": _LOCK, "number": order.order_number},
    )
    connection.execute(
        text(
            "INSERT INTO hotline_order (order_number, incident_id, first, batch_id) SELECT :number,"
            " :id, NOT EXISTS (SELECT 1 FROM hotline_order WHERE order_number = :number), :batch"
        ),
        {"number": order.order_number, "id": incident_id, "batch": write.batch_id},
    )
    if not order.told.empty:
        _add_notice(write, order.order_number, order.told, account)


def _add_notice(write: Write, order_number: str, told: Told, account: Account) -> bool:
    """Whether it was not known yet: the same again, from a retry, is kept once."""
    added = write.connection.execute(
        text(
            "INSERT INTO hotline_notice"
            " (order_number, batch_id, account, line, unit, told_at, city_office_informed_at)"
            " SELECT :number, :batch, :account, g.* FROM (SELECT CAST(:line AS text) AS line,"
            " CAST(:unit AS text) AS unit, CAST(:told_at AS timestamptz) AS told_at,"
            " CAST(:office AS timestamptz) AS office) g WHERE NOT EXISTS"
            " (SELECT 1 FROM hotline_notice n WHERE n.order_number = :number"
            " AND (n.line, n.unit, n.told_at, n.city_office_informed_at)"
            " IS NOT DISTINCT FROM (g.line, g.unit, g.told_at, g.office))"
        ),
        {
            "number": order_number,
            "batch": write.batch_id,
            "account": account.username,
            "line": told.line,
            "unit": told.unit,
            "told_at": told.told_at,
            "office": told.city_office_informed_at,
        },
    )
    return added.rowcount == 1


def record_told(
    engine: Engine, order_number: str, told: Told, *, body: bytes, account: Account
) -> dict[str, Any]:
    """Add who was told of an order; answers how it stands. Durable; the same again is once.

    Raises NotFound for an order the account does not see, NotAllowed outside its districts.
    """
    with writing(
        engine,
        channel="hotline",
        account=account.username,
        body=body,
        request={"order_number": order_number},
    ) as write:
        connection = write.connection
        set_reader(connection, account)
        connection.execute(
            text("SELECT pg_advisory_xact_lock(:lock, hashtext(:number))"),
            {"lock": _LOCK, "number": order_number},
        )
        rows = _incidents(connection, order_number)
        if not any(account.sees(row.adcode) or row.account == account.username for row in rows):
            raise NotAllowed("the incident lies outside your districts; you may read it only")
        if _add_notice(write, order_number, told, account):
            write.kind = "hotline"
            write.detail = {"order_number": order_number}
        return _standing(connection, order_number, account)


def order_standing(engine: Engine, order_number: str, account: Account) -> dict[str, Any]:
    """How a work order stands: its incidents, who was told, what is missing. Raises NotFound."""
    with reading(engine, account.scope, snapshot=True) as connection:
        set_reader(connection, account)
        return _standing(connection, order_number, account)


def _incidents(connection: Connection, order_number: str) -> list[Any]:
    """The order's incidents that may be seen, the first one first. Raises NotFound."""
    linked = connection.execute(
        text(
            "SELECT incident_id, first FROM hotline_order WHERE order_number = :number"
            " ORDER BY first DESC, batch_id"
        ),
        {"number": order_number},
    ).all()
    found = [connection.execute(text(ONE), {"id": one.incident_id}).first() for one in linked]
    seen = [row for row in found if row is not None]
    if not seen:
        raise NotFound("no such work order")
    return seen


def _standing(connection: Connection, order_number: str, account: Account) -> dict[str, Any]:
    rows = _incidents(connection, order_number)
    notices = connection.execute(
        text(
            "SELECT n.*, b.opened_at FROM hotline_notice n JOIN batch b ON b.id = n.batch_id"
            " WHERE n.order_number = :number ORDER BY n.id"
        ),
        {"number": order_number},
    ).all()
    given = rows[0].body["hotline"]
    calls = [one for one in notices if one.line is not None]
    informed = [one.city_office_informed_at for one in notices if one.city_office_informed_at]
    urgent = any(row.body["hotline"].get("life_safety") is True for row in rows)
    counted = rows[0]
    if counted.duplicate_of is not None:
        into = connection.execute(text(ONE), {"id": counted.duplicate_of}).first()
        counted = into or counted
    answer: dict[str, Any] = {
        "order_number": order_number,
        "state": counted.state,
        **{name: given.get(name) for name in ("category", "address_text", "received_at")},
        "life_safety": urgent,
        "incidents": [
            {
                "incident_id": str(row.incident_id),
                "state": row.state,
                "adcode": row.adcode,
                "version": row.version,
                "duplicate_of": None if row.duplicate_of is None else str(row.duplicate_of),
            }
            for row in rows
        ],
        "told": [
            {
                "emergency_line": one.line,
                "unit": one.unit,
                "told_at": one.told_at.isoformat(),
                "account": one.account,
                "received_at": one.opened_at.isoformat(),
            }
            for one in calls
        ],
        "city_office_informed_at": min(informed).isoformat() if informed else None,
        "missing": [
            name
            for name, done in (("emergency_line", calls), ("city_office_informed_at", informed))
            if urgent and not done
        ],
    }
    if account.role in READS_REPORTERS or rows[0].account == account.username:
        answer["caller"] = given.get("caller")
    return answer
