"""The router every route module uses: strict JSON bodies, and no route past the policy."""

from __future__ import annotations

import email.message
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import APIRouter, Request, Response, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute

from api.strict_json import parse_json
from geo.errors import Fault, InvalidInput

THREAD_FROM_BYTES = 64 * 1024
#: What is read here must be asked in so many words: a misspelt `at` would be answered with now.
ASKED_STRICTLY = ("/v1/", "/tiles/")
NAME_CHARACTERS_SHOWN = 64


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
        known = self._parameters()

        async def policed(request: Request) -> Response:
            rule = request.scope["state"].get("rule")
            if rule is None or rule.path != self.path or rule.method not in (self.methods or ()):
                raise RuntimeError(f"{self.path} was reached under the policy row {rule}")
            if known is not None:
                _refuse_unknown(request, known)
            strict = StrictRequest(request.scope, request.receive)
            if takes_json and _says_json(strict) and await strict.body():
                await strict.json()  # here, since FastAPI would turn its errors into a bare 400
            return await handle(strict)

        return policed

    def _parameters(self) -> frozenset[str] | None:
        """The names a query may hold, where the route is asked strictly."""
        if "GET" not in (self.methods or ()) or not self.path.startswith(ASKED_STRICTLY):
            return None
        read = get_flat_params(self.dependant)
        return frozenset(
            {field.alias for field in read if isinstance(field.field_info, params.Query)} | {"lang"}
        )


def _refuse_unknown(request: Request, known: frozenset[str]) -> None:
    strange = [name for name in request.query_params if name not in known]
    if strange:
        reason = f"is no parameter of this; known are {', '.join(sorted(known))}"
        shown = [name[:NAME_CHARACTERS_SHOWN] for name in strange[:10]]
        raise InvalidInput([Fault(reason, None, name) for name in shown])


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
