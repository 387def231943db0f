"""The API's own description and the page that shows it."""

from __future__ import annotations

from fastapi import Request, Response

from api.answers import json_answer
from api.deps import Caller, Csrf, LangDep
from api.docs import DOCS_CSP, openapi_of, render_docs
from api.routing import make_router

router = make_router("service")


@router.get("/openapi.json", summary="This description", include_in_schema=False)
def openapi(request: Request) -> Response:
    app = request.app
    if not hasattr(app.state, "openapi"):
        app.state.openapi = openapi_of(app, app.state.policy)
    return json_answer(app.state.openapi)


@router.get("/docs", summary="This description as a page", include_in_schema=False)
def docs(account: Caller, csrf: Csrf, lang: LangDep) -> Response:
    return Response(
        render_docs(lang, account.username, csrf),
        headers={"Content-Security-Policy": DOCS_CSP},
        media_type="text/html; charset=utf-8",
    )
