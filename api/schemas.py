"""Shared pieces of the API's description, for handlers that parse their bodies themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ROWS: Mapping[str, Any] = {"type": "array", "items": {"type": "integer", "minimum": 1}}
#: What a batch of reports answers. The first four members are always there.
RECEIPT: Mapping[str, Any] = {
    "type": "object",
    "required": ["accepted", "duplicates", "rejected", "sequence"],
    "properties": {
        "accepted": {"type": "integer", "description": "Rows taken now; on disk."},
        "duplicates": {"type": "integer", "description": "Rows that were taken before, the same."},
        "rejected": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "row": {"type": ["integer", "null"], "description": "From 1, as sent."},
                    "field": {"type": ["string", "null"]},
                    "reason": {"type": "string"},
                },
            },
        },
        "sequence": {"type": "integer", "description": "For `min_sequence` of the situation."},
        "waiting": {
            "type": "integer",
            "description": "How many of the accepted rows speak of a facility that is not in the"
            " inventory yet: kept, and applied when it is imported. Left out where 0.",
        },
        "waiting_rows": {**_ROWS, "description": "Which rows those are, from 1."},
        "future": {
            "type": "integer",
            "description": "How many of the accepted rows speak of a time more than 5 minutes after"
            " they were received: kept, never applied; mend the clock and send them under new ids."
            " Left out where 0.",
        },
        "future_rows": {**_ROWS, "description": "Which rows those are, from 1."},
        "unread": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Members (of a table: columns) nothing was read from, once each; kept"
            " with the original and otherwise ignored. Left out where there is none.",
        },
    },
}


def receipt_answer(**more: Any) -> dict[str, Any]:
    """`responses` of a route that answers with a receipt; `more` are its other answers."""
    content = {"application/json": {"schema": dict(RECEIPT)}}
    return {"200": {"description": "What became of every row", "content": content}, **more}


def json_body(
    schema: Mapping[str, Any], examples: Mapping[str, Any], *, ndjson: bool = False
) -> dict[str, Any]:
    """`openapi_extra` of a route whose body is JSON (and NDJSON, one value a line)."""
    shown = {name: {"value": value} for name, value in examples.items()}
    content: dict[str, Any] = {"application/json": {"schema": dict(schema), "examples": shown}}
    if ndjson:
        content["application/x-ndjson"] = {"schema": {"type": "string"}}
    return {"requestBody": {"required": True, "content": content}}


def file_body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route that takes a multipart form with a `file` and `fields`."""
    properties = {"file": {"type": "string", "format": "binary"}, **fields}
    schema = {"type": "object", "required": ["file"], "properties": properties}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }
