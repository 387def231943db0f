"""Operators' returns (totals per district or unit) and heartbeats ("nothing new")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from api.answers import json_answer
from api.deps import At, Body, Caller, LangDep, ServicesDep
from api.members import meant, named_meant, unread
from api.messages import rejected_rows
from api.problems import problem
from api.routing import make_router
from api.schemas import receipt_answer
from api.strict_json import parse_json
from api.upload import receive_upload
from data.fields import Fields, require_object
from data.readers.return_table import HEAD, parse_return_table
from data.readers.tabular import Lines
from data.returns import list_returns, store_heartbeat, store_return
from data.status import Receipt
from geo.errors import Fault, InvalidInput

router = make_router("returns")

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
TABLES = frozenset({"text/csv", "application/csv", "application/vnd.ms-excel", XLSX})
MULTIPART = "multipart/form-data"
FIELDS_MAX = 20
EXAMPLE: dict[str, Any] = {
    "return_id": "CT-2026-11-21-0810",
    "operator": "telecom",
    "kind": "base_station",
    "as_of": "2026-11-21T08:10:00+08:00",
    "rows": [
        {"adcode": "500103", "total": 1200, "down": 130, "causes": {"power": 110, "transport": 12}},
        {"unit": "500106", "total": 1850, "down": 40, "unknown": 15},
    ],
}
_WHOLE = {"type": "integer", "minimum": 0}
ROW_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["total", "down"],
    "properties": {
        "adcode": {"type": "string", "description": "Of a district; or `unit`, not both."},
        "unit": {"type": "string"},
        "total": _WHOLE,
        "down": _WHOLE,
        "unknown": _WHOLE,
        "causes": {"type": "object", "description": "How many of `down`: what is left is unknown."},
        "load_kw": _WHOLE,
        "load_shed_kw": _WHOLE,
        "customers": _WHOLE,
        "customers_out": _WHOLE,
    },
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["return_id", "operator", "kind", "as_of", "rows"],
    "properties": {
        "return_id": {"type": "string", "maxLength": 128},
        "operator": {"type": "string", "maxLength": 128},
        "kind": {"type": "string", "maxLength": 128},
        "as_of": {"type": "string", "format": "date-time"},
        "rows": {"type": "array", "items": ROW_SCHEMA},
    },
}
HEARTBEAT: dict[str, Any] = {"type": "object", "properties": {"operator": {"type": "string"}}}


@dataclass(frozen=True)
class Submission:
    """What was sent: the bytes of the return and what was said beside them."""

    data: bytes
    media_type: str
    said: dict[str, str]
    name: str = ""


async def _submission_of(request: Request) -> Submission:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    said = {key: value for key, value in request.query_params.items() if key in HEAD}
    if media_type != MULTIPART:
        return Submission(await request.body(), media_type, said)
    upload = await receive_upload(request, fields_max=FIELDS_MAX)
    try:
        said = {name: value for name in HEAD if (value := upload.text(name))}
        data = await run_in_threadpool(upload.path.read_bytes)
    finally:
        upload.discard()
    return Submission(data, upload.media_type, said, upload.name)


@router.post(
    "/v1/returns",
    summary="Send an operator's totals",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": SCHEMA, "example": EXAMPLE},
                "text/csv": {
                    "schema": {"type": "string"},
                    "example": "adcode,total,down,power\n500103,1200,130,110\n",
                },
                XLSX: {"schema": {"type": "string", "format": "binary"}},
                MULTIPART: {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {"file": {"type": "string", "format": "binary"}},
                    }
                },
            },
        },
        "responses": receipt_answer(),
    },
)
def send_return(
    services: ServicesDep,
    account: Caller,
    lang: LangDep,
    sent: Annotated[Submission, Depends(_submission_of)],
) -> Response:
    """Good rows are taken, bad ones listed. A table (CSV, XLSX) says `return_id`, `operator`,
    `kind` and `as_of` as columns, query or form fields. `future` rows are those of an `as_of` more
    than 5 minutes ahead: kept and never applied. `unread` names members or columns nothing was
    read from."""
    numbers: list[int] | None = None
    lines: Lines | None = None
    unreadable: tuple[Fault, ...] = ()
    columns: tuple[str, ...] = ()
    if sent.media_type in TABLES or sent.name.lower().endswith((".csv", ".xlsx")):
        table = parse_return_table(sent.data, sent.said, sent.name)
        submitted, numbers, unreadable = table.body, table.row_numbers, table.faults
        lines, columns = table.lines, table.unread
    elif sent.media_type in ("application/json", "") or sent.media_type.endswith("+json"):
        submitted = parse_json(sent.data)
    else:
        return problem(415, "send application/json, text/csv or XLSX", lang=lang)
    with meant(submitted, SCHEMA):
        receipt: Receipt = store_return(
            services.engine,
            submitted,
            body=sent.data,
            account=account.username,
            operators=account.operators,
            content_type=sent.media_type or "application/json",
            row_numbers=numbers,
        )
    rejected = list(receipt.rejected)
    if numbers is None:
        rejected = named_meant(rejected, submitted["rows"], SCHEMA["properties"]["rows"])
    return json_answer(
        receipt.as_json(
            rejected_rows([*rejected, *unreadable], lang, lines),
            [*columns, *unread(submitted, SCHEMA)],
        )
    )


@router.get("/v1/returns", summary="The return in force of each operator and kind")
def returns(services: ServicesDep, account: Caller, at: At) -> Response:
    """Only of the operators the account speaks for."""
    known = list_returns(services.engine, at, account.scope)
    return json_answer({"returns": [r for r in known if account.speaks_for(r["operator"])]})


@router.post(
    "/v1/heartbeats",
    summary="Alive, nothing new to report",
    openapi_extra={
        "requestBody": {
            "content": {
                "application/json": {
                    "schema": HEARTBEAT,
                    "example": {"operator": "telecom"},
                }
            }
        }
    },
)
def heartbeat(services: ServicesDep, account: Caller, body: Body) -> Response:
    """Of one operator, or without one of all the account speaks for; so another member is refused,
    lest a misspelt `operator` speak for all."""
    given = require_object(parse_json(body), "a heartbeat") if body.strip() else {}
    faults: list[Fault] = []
    operator = Fields(given, faults).identifier("operator")
    faults += [
        Fault("is not read; the only member is operator", None, name)
        for name in unread(given, HEARTBEAT)
    ]
    if faults:
        raise InvalidInput(faults)
    answer = store_heartbeat(
        services.engine,
        operator=operator,
        body=body,
        account=account.username,
        operators=account.operators,
    )
    return json_answer(answer)
