"""The audit trail, for administrators."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from fastapi import Query, Request, Response

from api.answers import json_answer
from api.audit_notes import note_rows
from api.deps import ServicesDep
from api.routing import make_router
from data.audit_chain import head_of
from data.audit_trail import ROWS_MAX, TrailQuestion, trail
from data.database import reading
from data.times import parse_time
from geo.errors import Fault, InvalidInput

router = make_router("audit")


@router.get("/v1/audit", summary="Who did what, when, from where")
def audit(
    request: Request,
    services: ServicesDep,
    account: Annotated[str | None, Query(max_length=63, description="Who did it")] = None,
    act: Annotated[
        str | None,
        Query(max_length=60, description="incident.edited, or incident for all that begin so"),
    ] = None,
    outcome: Literal["done", "refused"] | None = None,
    subject: Annotated[
        str | None, Query(max_length=200, description="account:NAME, incident:ID …")
    ] = None,
    address: Annotated[str | None, Query(max_length=60, description="From where")] = None,
    since: Annotated[
        str | None, Query(description="Then or later", examples=["2026-11-21T00:00:00+08:00"])
    ] = None,
    until: Annotated[str | None, Query(description="Before then")] = None,
    before: Annotated[
        int | None, Query(ge=1, le=2**62, description="`next` of the page before")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=ROWS_MAX)] = 100,
) -> Response:
    """The newest rows first. `next`, if there is more, is `before` of the next page. `head` is the
    newest row of all: note its number and hash elsewhere, and `yutu audit verify` finds rows that
    were cut off. Reading the trail is itself recorded."""
    faults: list[Fault] = []
    times: dict[str, datetime | None] = {}
    for name, value in (("since", since), ("until", until)):
        try:
            times[name] = None if value is None else _time(value)
        except ValueError as error:
            faults.append(Fault(str(error), None, name))
    for name, said in (
        ("account", account),
        ("act", act),
        ("subject", subject),
        ("address", address),
    ):
        if said is not None and "\0" in said:
            faults.append(Fault("holds the NUL character", None, name))
    if faults:
        raise InvalidInput(faults)
    asked = TrailQuestion(
        account, act, outcome, subject, address, times["since"], times["until"], before
    )
    with reading(services.engine, snapshot=True) as connection:
        rows = trail(connection, asked, limit + 1)
        head = head_of(connection)
    shown = rows[:limit]
    note_rows(request, len(shown), always=True)
    return json_answer(
        {
            "rows": shown,
            "next": shown[-1]["number"] if len(rows) > limit else None,
            "head": None if head is None else {"number": head.number, "sha256": head.sha256},
        }
    )


def _time(value: str) -> datetime:
    return parse_time(re.sub(r" (?=\d{2}:\d{2}$)", "+", value))  # a + not escaped is a space
