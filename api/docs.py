"""The API described: OpenAPI with its credentials and problems, and a page for it without a CDN."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

from api.policy import OPEN, PolicyTable
from api.problems import MEDIA_TYPE
from maps.assets import ASSETS_DIR, STATIC_PREFIX
from maps.text import HTML_LANGS, WORDS, Lang

PREFIX = f"{STATIC_PREFIX}/swagger-ui"
DOCS_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_PAGE = Template("""<!DOCTYPE html>
<html lang="$html_lang">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>渝图 API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="$prefix/swagger-ui.css">
<style>
body { margin: 0; }
.top {
  display: flex; align-items: center; gap: 10px; padding: 8px 16px;
  background: #0d1728; color: #fff;
  font: 15px/1.45 "Noto Sans CJK SC", "Source Han Sans SC", "PingFang SC", "Microsoft YaHei",
    system-ui, sans-serif;
}
.top b { flex: 1; }
.user { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; color: #b9c6da; }
.top form { margin: 0; flex: none; }
.top button {
  min-height: 40px; padding: 0 14px; border: 1px solid #4a5d7c; border-radius: 6px;
  background: none; color: #e8eef7; font: inherit; cursor: pointer;
}
.top button:hover { background: #1c2b45; }
.top :focus-visible { outline: 3px solid #7fb0f5; outline-offset: 2px; }
</style>
</head>
<body>
<header class="top"><b>$brand API</b>
<span class="user" title="$username">$username</span>$sign_out</header>
<div id="swagger-ui"></div>
<script src="$prefix/swagger-ui-bundle.js"></script>
<script src="$prefix/start.js"></script>
</body>
</html>
""")
_SIGN_OUT = Template(
    '<form method="post" action="/logout"><input type="hidden" name="csrf" value="$csrf">'
    '<button type="submit">$words</button></form>'
)

DESCRIPTION = """渝图 · the situation of Chongqing under its three emergency plans.

Errors are `application/problem+json` (RFC 9457). Times carry an offset, coordinates are
`[lon, lat]`. Credentials: a bearer token from `POST /v1/token`, an `X-API-Key`, or a session
cookie, whose writes also send `X-CSRF-Token`.
"""

SECURITY_SCHEMES = {
    "token": {
        "type": "oauth2",
        "flows": {"password": {"tokenUrl": "/v1/token", "scopes": {}}},
    },
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "session": {"type": "apiKey", "in": "cookie", "name": "yutu_session"},
}

PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "row": {"type": ["integer", "null"]},
                    "field": {"type": ["string", "null"]},
                    "reason": {"type": "string"},
                },
            },
        },
        "error_id": {"type": "string", "description": "Of an internal error; the log has it"},
    },
    "example": {
        "type": "urn:yutu:problem:invalid-input",
        "title": "输入有误",
        "status": 422,
        "errors": [{"row": 3, "field": "state", "reason": "is one of up, degraded, down, unknown"}],
    },
}


def render_docs(lang: Lang, username: str, csrf: str) -> bytes:
    """The page for an account; with the way out of its session, if it has one (`csrf`)."""
    words = WORDS[lang]
    form = _SIGN_OUT.substitute(csrf=escape(csrf), words=words["sign_out"]) if csrf else ""
    return _PAGE.substitute(
        html_lang=HTML_LANGS[lang],
        prefix=PREFIX,
        brand=words["brand"],
        username=escape(username),
        sign_out=form,
    ).encode()


def swagger_files() -> dict[str, Path]:
    """URL path → file of the documentation page."""
    package = ASSETS_DIR / "node_modules" / "swagger-ui-dist"
    return {
        f"{PREFIX}/swagger-ui.css": package / "swagger-ui.css",
        f"{PREFIX}/swagger-ui-bundle.js": package / "swagger-ui-bundle.js",
        f"{PREFIX}/start.js": Path(__file__).with_name("docs.js"),
    }


def openapi_of(app: FastAPI, policy: PolicyTable) -> dict[str, Any]:
    """The OpenAPI description: per operation who may call it and how errors look."""
    document = get_openapi(
        title="渝图 Yutu", version=app.version, description=DESCRIPTION, routes=app.routes
    )
    components = document.setdefault("components", {})
    components["securitySchemes"] = SECURITY_SCHEMES
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = PROBLEM_SCHEMA
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for context in iter_route_contexts(app.routes):
        for method in context.methods or ():
            operation = document["paths"].get(context.path, {}).get(method.lower())
            rule = policy.find(method, str(context.path))
            if operation is None or rule is None:
                continue
            answers = operation.setdefault("responses", {})
            problem = {"$ref": "#/components/schemas/Problem"}
            shown = {"description": "Problem", "content": {MEDIA_TYPE: {"schema": problem}}}
            answers.pop("422", None)
            answers["default"] = shown
            if rule.roles is OPEN:
                operation["security"] = []
                continue
            operation["security"] = [{name: []} for name in SECURITY_SCHEMES]
            operation["x-roles"] = sorted(rule.roles or ())
    return document
