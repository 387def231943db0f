"""Shared pieces of the API's description, for handlers that parse their bodies themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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
