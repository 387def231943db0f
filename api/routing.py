"""The router every route module uses: strict JSON bodies, and no route past the policy."""

from __future__ import annotations

import email.message
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute

from api.strict_json import parse_json

THREAD_FROM_BYTES = 64 * 1024


class StrictRequest(Request):
    """A request whose `json()` is the strict parser."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            body = await self.body()
            if len(body) < THREAD_FROM_BYTES:
                self._json = parse_json(body)
            else:
                self._json = await run_in_threadpool(parse_json, body)
        return self._json


class PolicedRoute(APIRoute):
    """A route that answers only under the policy row of its own method and path.

    The gate matches paths by the policy table and FastAPI by its routes; were they ever to
    disagree, this refuses rather than serve one route under another's row.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        takes_json = self.body_field is not None

        async def policed(request: Request) -> Response:
            rule = request.scope["state"].get("rule")
            if rule is None or rule.path != self.path or rule.method not in (self.methods or ()):
                raise RuntimeError(f"{self.path} was reached under the policy row {rule}")
            strict = StrictRequest(request.scope, request.receive)
            if takes_json and _says_json(strict) and await strict.body():
                await strict.json()  # here, since FastAPI would turn its errors into a bare 400
            return await handle(strict)

        return policed


def make_router(tag: str) -> APIRouter:
    """A router for one noun. Paths are written whole: no prefix is added later."""
    return APIRouter(route_class=PolicedRoute, tags=[tag])


def served_routes(routes: Iterable[BaseRoute]) -> list[tuple[str, str]]:
    """(method, path template) of every route. Raises RuntimeError for one without the police."""
    served = []
    for context in iter_route_contexts(list(routes)):
        if not isinstance(context.original_route, PolicedRoute):
            raise RuntimeError(f"{context.path} is not made by api.routing.make_router")
        if context.path != context.original_route.path:
            raise RuntimeError(f"{context.path}: write paths whole, include routers without prefix")
        served += [(method, str(context.path)) for method in context.methods or ()]
    return served


def _says_json(request: Request) -> bool:
    message = email.message.Message()
    message["content-type"] = request.headers.get("content-type", "")
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (
        subtype == "json" or subtype.endswith("+json")
    )
