"""Answers: JSON by orjson, bytes with an ETag, pages under their own policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Request, Response

from maps.page import Page

JSON = "application/json"
GEOJSON = "application/geo+json"
REVALIDATE = "private, no-cache"


def json_answer(
    content: Any,
    status: int = 200,
    *,
    headers: Mapping[str, str] | None = None,
    media_type: str = JSON,
) -> Response:
    """`content` as JSON. orjson writes NaN as null: nothing here may hold one."""
    return Response(
        orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS),
        status,
        headers=dict(headers or {}),
        media_type=media_type,
    )


def tagged_answer(
    request: Request,
    body: bytes,
    etag: str,
    *,
    media_type: str = JSON,
    cache: str = REVALIDATE,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Stored bytes under their quoted ETag, or 304 when the caller has them already."""
    sent = {"ETag": etag, "Cache-Control": cache, **(headers or {})}
    if has_etag(request, etag):
        return Response(status_code=304, headers=sent)
    return Response(body, headers=sent, media_type=media_type)


def has_etag(request: Request, etag: str) -> bool:
    """Whether If-None-Match names this ETag (weak comparison)."""
    given = request.headers.get("if-none-match")
    if given is None:
        return False
    return any(one.strip().removeprefix("W/") in (etag, "*") for one in given.split(","))


def page_answer(page: Page, status: int = 200, request: Request | None = None) -> Response:
    """A page under its own content policy; 304 when `request` has it already."""
    headers = {"ETag": page.etag, "Cache-Control": REVALIDATE, "Content-Security-Policy": page.csp}
    if request is not None and status == 200 and has_etag(request, page.etag):
        return Response(status_code=304, headers=headers)
    return Response(page.html, status, headers=headers, media_type="text/html; charset=utf-8")
