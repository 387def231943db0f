"""Status events of facilities."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from api.answers import json_answer
from api.deps import Body, Caller, ContentType, LangDep, ServicesDep
from api.members import named_meant, unread
from api.messages import rejected_rows
from api.routing import make_router
from api.schemas import json_body, receipt_answer
from api.strict_json import parse_json, parse_ndjson_rows
from data.status import MAX_EVENTS, ingest_status
from geo.errors import Fault, InvalidInput

router = make_router("status")

EXAMPLE = [
    {
        "event_id": "0190a5c2-7f3e-7c1a-9b1e-2f6f0c9d1a55",
        "facility_id": "BS-500103-000017",
        "state": "down",
        "observed_at": "2026-11-21T08:10:00+08:00",
        "cause": "power",
    }
]
SCHEMA: dict[str, Any] = {
    "type": "array",
    "maxItems": MAX_EVENTS,
    "items": {
        "type": "object",
        "required": ["event_id", "facility_id", "state", "observed_at"],
        "properties": {
            "event_id": {"type": "string", "maxLength": 128},
            "facility_id": {"type": "string", "maxLength": 128},
            "state": {"enum": ["up", "degraded", "down", "unknown"]},
            "observed_at": {"type": "string", "format": "date-time"},
            "cause": {"type": "string", "maxLength": 200},
        },
    },
}


@router.post(
    "/v1/status",
    summary="Send status events of facilities",
    openapi_extra=json_body(SCHEMA, {"one event": EXAMPLE}, ndjson=True)
    | {"responses": receipt_answer()},
)
def send_status(
    services: ServicesDep,
    account: Caller,
    body: Body,
    content_type: ContentType,
    lang: LangDep,
) -> Response:
    """JSON array, or NDJSON with one event a line. Good rows are taken and bad ones listed; the
    answer comes after the commit. The same `event_id` may be sent again for ever. An empty array
    says "nothing new" and keeps the operator from counting as silent. `waiting` counts accepted
    events of facilities not yet in the inventory, which are applied when these are imported;
    `future` those more than 5 minutes ahead, which are kept and never applied; `waiting_rows` and
    `future_rows` are their numbers. `unread` names members nothing was read from."""
    events = _events(body, content_type)
    receipt = ingest_status(
        services.engine,
        events,
        body=body,
        account=account.username,
        operators=account.operators,
        content_type=content_type or "application/json",
    )
    rejected = named_meant(receipt.rejected, events, SCHEMA)
    return json_answer(receipt.as_json(rejected_rows(rejected, lang), unread(events, SCHEMA)))


def _events(body: bytes, content_type: str) -> list[Any]:
    """The body's events. Without a content type, what starts with `[` is an array."""
    if content_type in ("application/x-ndjson", "application/ndjson", "application/jsonl"):
        return parse_ndjson_rows(body)
    if content_type != "application/json" and body.lstrip()[:1] != b"[":
        return parse_ndjson_rows(body)
    parsed = parse_json(body)
    if isinstance(parsed, dict):
        return [parsed]
    if not isinstance(parsed, list):
        raise InvalidInput([Fault("send an array of events, or one event a line as NDJSON")])
    return parsed
