"""Operators' returns: totals per district or unit of those who cannot report per site.

docs/meanings.md, "Returns", "Partial input": good rows are taken and bad ones listed; the same
return again is a duplicate, another body under its id a conflict. An `as_of` more than five minutes
ahead of its receipt is kept and never applied.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, text

from data.database import CITY, WHOLE_CITY, Scope, Write, reading, sequence_at, writing
from data.divisions import require_divisions, units, version_at
from data.fields import Fields, body_sha256, require_object
from data.status import Receipt
from geo.errors import Fault, InvalidInput, NotAllowed, NotFound

CAUSES = ("power", "damage", "transport", "other")
ROWS_MAX = 5_000
AHEAD_MAX = timedelta(minutes=5)
#: part → whole, where both are given.
_PARTS = {"load_shed_kw": "load_kw", "customers_out": "customers"}


@dataclass(frozen=True)
class ReportedReturn:
    """The head of a return, valid, and its rows as they came."""

    return_id: str
    operator: str
    kind: str
    as_of: datetime
    rows: list[Any]


def read_return(body: Any) -> ReportedReturn:
    """The return in a parsed body; its rows are looked at when it is stored.

    Raises InvalidInput naming every fault of return_id, operator, kind, as_of and the list itself.
    """
    given = require_object(body, "a return")
    faults: list[Fault] = []
    read = Fields(given, faults)
    return_id = read.identifier("return_id", required=True)
    operator = read.identifier("operator", required=True)
    kind = read.identifier("kind", required=True)
    as_of = read.time("as_of", required=True)
    rows = read.raw("rows", required=True)
    if rows is not None and not isinstance(rows, list):
        read.fault("rows", "must be a list")
    elif rows is not None and not rows:
        read.fault("rows", 'is empty; "no change" is said by the same totals or a heartbeat')
    elif rows is not None and len(rows) > ROWS_MAX:
        read.fault("rows", f"has more than {ROWS_MAX} rows")
    if faults or as_of is None:
        raise InvalidInput(faults)
    return ReportedReturn(return_id or "", operator or "", kind or "", as_of, rows)


def store_return(
    engine: Engine,
    submitted: Any,
    *,
    body: bytes,
    account: str,
    operators: Sequence[str] = CITY,
    content_type: str = "application/json",
    row_numbers: Sequence[int] | None = None,
) -> Receipt:
    """Store a return's good rows; durable on return. Counts in the receipt are of rows.

    `submitted` is the parsed `body`; `row_numbers` are its rows' numbers in the file they came in
    (1, 2, … without). Raises InvalidInput when its head is wrong, NotAllowed for an
    operator the account does not speak for.
    """
    found = read_return(submitted)
    if "*" not in operators and found.operator not in operators:
        raise NotAllowed("the account does not speak for this operator")
    digest = body_sha256(submitted)
    receipt = Receipt()
    with writing(
        engine,
        channel="return",
        account=account,
        body=body,
        content_type=content_type,
        request={"return_id": found.return_id},
    ) as write:
        rows = _good_rows(write.connection, found, receipt, row_numbers)
        stored = bool(rows) and _insert(write, found, digest, list(rows.values()))
        if stored:
            receipt.accepted = len(rows)
            receipt.future_rows += rows if _is_ahead(found, write) else ()
            write.kind = "return"
            write.detail = {"return_id": found.return_id, "operator": found.operator}
        elif rows:
            if _is_repeat(write.connection, found, digest):
                receipt.duplicates = len(rows)
            else:
                reason = "conflict: this return_id was accepted before with another body"
                receipt.rejected += [Fault(reason, number, "return_id") for number in rows]
        if not stored:
            receipt.sequence = sequence_at(write.connection, None)
    if write.sequence is not None:
        receipt.sequence = write.sequence
    return receipt


def _good_rows(
    connection: Connection,
    found: ReportedReturn,
    receipt: Receipt,
    row_numbers: Sequence[int] | None,
) -> dict[int, dict[str, Any]]:
    """The rows that hold by their number, as stored: `code` and figures; others are rejected."""
    require_divisions(connection)
    try:
        version = version_at(connection, found.as_of)
    except NotFound as error:
        raise InvalidInput([Fault(str(error), None, "as_of")]) from None
    codes: dict[str, set[str]] = {"adcode": set(), "unit": set()}
    for unit in units(connection, version.id):
        codes["unit"].add(unit["code"])
        if unit["kind"] == "district":
            codes["adcode"].add(unit["code"])
    numbered = dict(zip(row_numbers or range(1, len(found.rows) + 1), found.rows, strict=True))
    places = _repeated(numbered)
    rows = {}
    for number, given in numbered.items():
        faults: list[Fault] = []
        row = _read_row(given, number, codes, version.label, faults)
        twins = places.get(row["code"], []) if row else []
        if len(twins) > 1:
            others = ", ".join(str(n) for n in twins if n != number)
            faults.append(Fault(f"{row['code']} is also in row {others}", number, "adcode"))
        if faults:
            receipt.rejected += faults
        else:
            rows[number] = row
    return rows


def _repeated(rows: Mapping[int, Any]) -> dict[str, list[int]]:
    """The rows each code stands in."""
    places: dict[str, list[int]] = {}
    for number, given in rows.items():
        if isinstance(given, Mapping):
            code = given.get("adcode") if given.get("adcode") is not None else given.get("unit")
            if isinstance(code, str):
                places.setdefault(code, []).append(number)
    return places


def _read_row(
    given: Any, number: int, codes: Mapping[str, Collection[str]], label: str, faults: list[Fault]
) -> dict[str, Any]:
    """One row with its causes made whole; what is wrong is added to `faults`."""
    if not isinstance(given, Mapping):
        faults.append(Fault("a row is an object with adcode or unit, total and down", number))
        return {}
    read = Fields(given, faults, row=number)
    stated = [name for name in ("adcode", "unit") if given.get(name) is not None]
    code = None
    if len(stated) != 1:
        read.fault(
            "adcode", "give adcode or unit" + (", not both" if stated else "; it is missing")
        )
    else:
        code = read.identifier(stated[0])
        if code is not None and code not in codes[stated[0]]:
            read.fault(stated[0], f"is not known in the divisions in force then ({label})")
    total = read.amount("total", required=True)
    down = read.amount("down", required=True)
    unknown = read.amount("unknown")
    if total is not None and down is not None:
        if down > total:
            read.fault("down", f"{down} is more than total, {total}")
        elif down + (unknown or 0) > total:
            read.fault("unknown", "with down is more than total")
    amounts = {name: read.amount(name) for pair in _PARTS.items() for name in pair}
    for part, whole in _PARTS.items():
        some, every = amounts[part], amounts[whole]
        if some is not None and every is not None and some > every:
            read.fault(part, f"is more than {whole}")
    return {
        "code": code,
        "total": total,
        "down": down,
        "unknown": unknown or 0,
        "causes": _read_causes(read, down),
        **amounts,
    }


def _read_causes(read: Fields, down: int | None) -> dict[str, int] | None:
    """How many are down from what; what is not said is `unknown`, so that they sum to `down`."""
    given = read.raw("causes")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        read.fault("causes", f"must be an object of {', '.join(CAUSES)}")
        return None
    allowed = (*CAUSES, "unknown")
    for name in given:
        if name not in allowed:
            read.fault("causes", f"has a cause beside {', '.join(CAUSES)}")
    amounts = Fields({f"causes.{k}": v for k, v in given.items()}, read.faults, row=read.row)
    causes = {name: amounts.amount(f"causes.{name}") or 0 for name in allowed}
    rest = (down or 0) - sum(causes.values())
    if down is not None and rest < 0:
        read.fault("causes", f"sum to {down - rest}, more than down, {down}")
        return None
    causes["unknown"] += max(rest, 0)
    return causes


def _is_ahead(found: ReportedReturn, write: Write) -> bool:
    """Whether it speaks of a time so far after its receipt that it is kept and never applied."""
    return found.as_of > write.opened_at + AHEAD_MAX


def _insert(write: Write, found: ReportedReturn, digest: bytes, rows: list[dict[str, Any]]) -> bool:
    """Whether the return is new; waits for a concurrent writer of the same id."""
    ahead = _is_ahead(found, write)
    added = write.connection.execute(
        text(
            "INSERT INTO operator_return"
            " (return_id, body_sha256, batch_id, operator, kind, as_of, future, rows)"
            " VALUES (:id, :sha, :batch, :operator, :kind, :as_of, :future, CAST(:rows AS jsonb))"
            " ON CONFLICT (return_id) DO NOTHING"
        ),
        {
            "id": found.return_id,
            "sha": digest,
            "batch": write.batch_id,
            "operator": found.operator,
            "kind": found.kind,
            "as_of": found.as_of,
            "future": ahead,
            "rows": orjson.dumps(rows).decode(),
        },
    )
    if added.rowcount != 1:
        return False
    write.connection.execute(
        text(
            "INSERT INTO source_report (batch_id, operator, kind, channel, observed_at)"
            " VALUES (:batch, :operator, :kind, 'return', :as_of)"
        ),
        {
            "batch": write.batch_id,
            "operator": found.operator,
            "kind": found.kind,
            "as_of": None if ahead else found.as_of,
        },
    )
    return True


def _is_repeat(connection: Connection, found: ReportedReturn, digest: bytes) -> bool:
    stored = connection.execute(
        text("SELECT body_sha256 FROM operator_return WHERE return_id = :id"),
        {"id": found.return_id},
    ).scalar_one()
    return bytes(stored) == digest


def store_heartbeat(
    engine: Engine,
    *,
    operator: str | None,
    body: bytes,
    account: str,
    operators: Sequence[str] = CITY,
) -> dict[str, Any]:
    """Note that operators are alive and have nothing new: {operators, sequence}.

    One `operator`, or all the account speaks for that have facilities or returns. Raises
    NotAllowed, and NotFound for one of which nothing is known.
    """
    if operator is not None and "*" not in operators and operator not in operators:
        raise NotAllowed("the account does not speak for this operator")
    meant = [operator] if operator is not None else list(operators)
    with writing(
        engine,
        channel="heartbeat",
        account=account,
        body=body,
        request={"operators": meant},
    ) as write:
        heard = write.connection.execute(
            text(
                "INSERT INTO source_report (batch_id, operator, kind, channel)"
                " SELECT :batch, operator, kind, 'heartbeat' FROM ("
                " SELECT operator, kind FROM counter_group"
                " UNION SELECT operator, kind FROM operator_return) known"
                " WHERE operator <> ''"
                " AND (:everyone OR operator = ANY (CAST(:operators AS text[])))"
                " RETURNING operator"
            ),
            {"batch": write.batch_id, "everyone": "*" in meant, "operators": meant},
        ).scalars()
        names = sorted(set(heard))
        if not names:
            raise NotFound("no facility and no return of such an operator is known")
        write.kind = "heartbeat"
        write.detail = {"operators": names}
    return {"operators": names, "sequence": write.sequence}


_NEWEST = """
SELECT DISTINCT ON (r.operator, r.kind)
       r.return_id, r.operator, r.kind, r.as_of, r.rows, h.sequence, h.received_at
FROM operator_return r JOIN change h USING (batch_id)
WHERE h.sequence <= :sequence AND NOT r.future
ORDER BY r.operator, r.kind, r.as_of DESC, r.return_id DESC
"""


def returns_at(connection: Connection, sequence: int) -> list[dict[str, Any]]:
    """The newest applicable return of every operator and kind, as known at `sequence`.

    Keys: return_id, operator, kind, as_of, received_at, sequence, rows [{code, total, down,
    unknown, causes, load_kw, load_shed_kw, customers, customers_out}] (kW; null where not said).
    """
    found = connection.execute(text(_NEWEST), {"sequence": sequence})
    return [dict(row._mapping) for row in found]


def list_returns(
    engine: Engine, at: datetime | None = None, scope: Scope = WHOLE_CITY
) -> list[dict[str, Any]]:
    """The returns in force as known at `at`, of the operators in scope, for showing."""
    with reading(engine, scope) as connection:
        found = returns_at(connection, sequence_at(connection, at))
    return [
        {**r, "as_of": r["as_of"].isoformat(), "received_at": r["received_at"].isoformat()}
        for r in found
    ]
