"""OGC API Features and Tiles at `/ogc/`: tipg's routes, under our accounts, scopes and problems."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, cast
from urllib.parse import quote

import asyncpg  # type: ignore[import-untyped]
import structlog
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from morecantile import tms as every_tms
from tipg import model
from tipg.collections import Collection, CollectionList
from tipg.dependencies import OutputType, s_intersects
from tipg.errors import MissingDatetimeColumn, TiPgError
from tipg.errors import NotFound as TipgNotFound
from tipg.factory import COMMON_CONFORMS, EndpointsFactory, OGCFeaturesFactory, OGCTilesFactory
from tipg.resources.enums import MediaType
from tipg.resources.response import ORJSONResponse

from api.audit_notes import note_rows
from api.bbox import parse_bbox
from api.deps import Caller, services_of
from api.language import Lang, language_of
from api.messages import summary
from api.ogc_catalog import OgcCatalog, OgcCollection
from api.ogc_page import OgcPages
from api.ogc_pool import Reader, ReaderPool, reader
from api.ogc_query import check_query, tidied
from api.policy import READS_INCIDENTS
from api.problems import DETAIL_MAX, faults_of, problem
from api.routing import PolicedRoute
from data.accounts import Account
from geo.errors import Fault, InvalidInput, NotFound, Unavailable

PREFIX = "/ogc"
TITLE = "渝图 OGC API"
INCIDENTS = "incidents"
#: Codes of a question the database cannot make sense of: bad data, bad types, a bad geometry.
ASKED_WRONGLY = ("22", "42", "XX")
DIVIDES_BY_ZERO = "22012"
RETURNED = re.compile(rb'"numberReturned": ?([0-9]{1,9})')
JSON_OR_PAGE = Annotated[MediaType | None, Depends(OutputType)]

log = structlog.get_logger("yutu.ogc")


class OgcRoute(PolicedRoute):
    """A policed route whose refusals are problems: 400 for what was asked wrongly, never 500."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            lang = language_of(request.scope)
            asking = Request(tidied(request.scope), request.receive)
            try:
                answer = await handle(asking)
                _note_features(request, answer)
                return answer
            except InvalidInput as error:
                return asked_wrongly(error.faults, lang)
            except RequestValidationError as error:
                return asked_wrongly(faults_of(error), lang)
            except HTTPException as error:
                if error.status_code != 422:
                    raise
                return asked_wrongly([_unanswerable(asking)], lang)
            except TipgNotFound:
                raise NotFound("no such feature") from None
            except MissingDatetimeColumn:
                reason = "this collection has no time to select by"
                return asked_wrongly([Fault(reason, None, "datetime")], lang)
            except TiPgError:
                return asked_wrongly([_unanswerable(asking)], lang)
            except asyncpg.QueryCanceledError:
                raise Unavailable("this took too long; ask for less, or export it") from None
            except asyncpg.PostgresError as error:
                if (error.sqlstate or "")[:2] in ASKED_WRONGLY and request.query_params:
                    log.info("asked wrongly", sqlstate=error.sqlstate)
                    return asked_wrongly([_refused_by_database(asking, error.sqlstate or "")], lang)
                if (error.sqlstate or "")[:2] in ("08", "53", "55", "57"):
                    raise Unavailable("the database does not answer; ask again") from None
                raise
            except (asyncpg.InterfaceError, OSError):
                raise Unavailable("the database does not answer; ask again") from None

        return answered


def asked_wrongly(faults: Sequence[Fault], lang: Lang) -> Response:
    """The problem 400 with every fault, and all of them as one line for people."""
    return problem(400, summary(faults, lang)[:DETAIL_MAX], lang=lang, faults=faults)


def _refused_by_database(request: Request, sqlstate: str) -> Fault:
    """Why a question that could be read cannot be computed; of which parameters, if it is known."""
    if sqlstate == DIVIDES_BY_ZERO:
        return Fault("divides by zero", None, _selecting(request))
    types = ", ".join(f"{name} {kind}" for name, kind in _columns(request).items())
    reason = f"has a value that is not of its property's type; the properties are {types}"
    return Fault(reason, None, _selecting(request))


def _unanswerable(request: Request) -> Fault:
    known = ", ".join(_columns(request))
    return Fault(
        f"cannot be answered as asked; the properties are {known}", None, _selecting(request)
    )


def _selecting(request: Request) -> str | None:
    """The parameters of a question that hold values of its own."""
    columns = _columns(request)
    names = [n for n in request.query_params if n in columns or n in ("filter", "ids", "bbox")]
    return ", ".join(names) or None


def _columns(request: Request) -> dict[str, str]:
    """The asked collection's properties and their types, as `asked` noted them."""
    found: dict[str, str] = getattr(request.state, "columns", {})
    return found


def _note_features(request: Request, answer: Response) -> None:
    """How many features a list says it returned; of one that is streamed nobody knows yet."""
    if isinstance(answer, StreamingResponse):
        note_rows(request, 0, always=True)
    elif isinstance(answer, ORJSONResponse):
        said = RETURNED.search(bytes(answer.body))
        note_rows(request, int(said[1]) if said else 0)


async def asked(request: Request, account: Caller) -> None:
    """Check the question, and say in this task's context who reads. Async, or it would be another
    context than the handler's."""
    services = services_of(request)
    request.app.state.pool = services.get(ReaderPool)
    columns = None
    name = request.path_params.get("collectionId")
    if name is not None:
        found = (await visible(request, account)).get(name)
        columns = {c.name: c.type for c in found.table_columns} if found else None
        request.state.columns = columns or {}
    route = cast(APIRoute, request.scope["route"])
    check_query(route.path, request.query_params.multi_items(), request.path_params, columns)
    reader.set(Reader(account.scope, account.username))


async def visible(request: Request, account: Account) -> dict[str, OgcCollection]:
    """The collections this account may see at all."""
    every = await services_of(request).get(OgcCatalog).collections()
    may = account.role in READS_INCIDENTS
    return {name: one for name, one in every.items() if may or name != INCIDENTS}


async def collection_of(request: Request, collectionId: str, account: Caller) -> OgcCollection:  # noqa: N803
    found = (await visible(request, account)).get(collectionId)
    if found is None:
        raise NotFound("no such collection")
    return found


async def collections_of(
    request: Request, account: Caller, bbox: str | None = None, limit: int = 100, offset: int = 0
) -> CollectionList:
    found: list[Collection] = list((await visible(request, account)).values())
    box = parse_bbox(bbox)
    if box is not None:
        found = [one for one in found if one.bounds and s_intersects(list(box), one.bounds)]
    page = found[offset : offset + limit]
    more = offset + len(page)
    return CollectionList(
        collections=page,
        matched=len(found),
        next=more if more < len(found) and page else None,
        prev=max(offset - limit, 0) if offset else None,
    )


class _Links(EndpointsFactory):
    """Links that hold whatever an id holds: tipg refuses a slash in one."""

    def url_for(self, request: Request, name: str, **path_params: Any) -> str:
        base = f"{str(request.base_url).rstrip('/')}{PREFIX}"
        safe = {key: quote(str(value), safe="{}") for key, value in path_params.items()}
        if name == "item":  # twice a feature, ten thousand a page: not looked up each time
            return f"{base}/collections/{safe['collectionId']}/items/{safe['itemId']}"
        return f"{base}{self.router.url_path_for(name, **safe)}"


class Features(_Links, OGCFeaturesFactory):
    """tipg's features; a collection's own links without CSV, which exports write safely."""

    def _collection_route(self) -> None:
        @self.router.get("/collections/{collectionId}", response_class=ORJSONResponse)
        async def collection(
            request: Request,
            collection: Annotated[OgcCollection, Depends(collection_of)],
            output_type: JSON_OR_PAGE = None,
        ) -> Any:
            """Metadata for a feature collection."""

            def link(rel: str, kind: MediaType, route: str, title: str) -> model.Link:
                href = self.url_for(request, route, collectionId=collection.id)
                return model.Link(title=title, href=href, rel=rel, type=kind)

            data = model.Collection(
                id=collection.id,
                title=collection.title,
                description=collection.description,
                extent=collection.extent,
                links=[
                    link("self", MediaType.json, "collection", "Collection"),
                    link("items", MediaType.geojson, "items", "Items"),
                    link("queryables", MediaType.schemajson, "queryables", "Queryables"),
                    *self._additional_collection_tiles_links(request, collection),
                ],
            ).model_dump(exclude_none=True, mode="json")
            if output_type == MediaType.html:
                return self._create_html_response(
                    request, data, template_name="collection", title=collection.id
                )
            return ORJSONResponse(data)


class Tiles(_Links, OGCTilesFactory):
    """tipg's tiles."""


SHARED: dict[str, Any] = {
    "collection_dependency": collection_of,
    "router_prefix": PREFIX,
    "templates": OgcPages(),
    "with_common": False,
}
features = Features(collections_dependency=cast(Any, collections_of), **SHARED)
tiles = Tiles(
    supported_tms=type(every_tms)(
        {name: every_tms.get(name) for name in ("WebMercatorQuad", "WorldCRS84Quad")}
    ),
    with_viewer=False,
    **SHARED,
)

router = APIRouter(route_class=OgcRoute, tags=["ogc"], dependencies=[Depends(asked)])


@router.get("/ogc", include_in_schema=False)
@router.get("/ogc/", summary="OGC API: landing page")
async def landing(request: Request, output_type: JSON_OR_PAGE = None) -> Response:
    """What there is: features and tiles of districts, facilities, incidents, outages, situation."""
    base = str(request.base_url).rstrip("/")

    def link(rel: str, path: str, kind: MediaType, title: str) -> model.Link:
        return model.Link(rel=rel, href=f"{base}{path}", type=kind, title=title)

    data = model.Landing(
        title=TITLE,
        links=[
            link("self", f"{PREFIX}/", MediaType.json, "This page"),
            link("service-desc", "/openapi.json", MediaType.openapi30_json, "API definition"),
            link("service-doc", "/docs", MediaType.html, "API documentation"),
            link("conformance", f"{PREFIX}/conformance", MediaType.json, "Conformance"),
            *features.links(request),
            *tiles.links(request),
        ],
    ).model_dump(exclude_none=True, mode="json")
    if output_type == MediaType.html:
        return features._create_html_response(request, data, template_name="landing", title=TITLE)
    return ORJSONResponse(data)


@router.get("/ogc/conformance", summary="OGC API: what it conforms to")
async def conformance(request: Request, output_type: JSON_OR_PAGE = None) -> Response:
    data = {"conformsTo": [*COMMON_CONFORMS, *features.conforms_to, *tiles.conforms_to]}
    if output_type == MediaType.html:
        return features._create_html_response(request, data, template_name="conformance")
    return ORJSONResponse(data)


def _take_over(factory: EndpointsFactory) -> None:
    """tipg's routes under our paths, whole, so that each has its policy row."""
    for one in factory.router.routes:
        route = cast(APIRoute, one)
        path = route.path.replace("/items/{itemId}", "/items/{itemId:path}")
        router.add_api_route(
            f"{PREFIX}{path}",
            route.endpoint,
            methods=sorted(route.methods or ()),
            name=route.name,
            summary=f"OGC API: {route.name.replace('_', ' ')}",
            operation_id=f"ogc_{route.name}",
            response_class=route.response_class,
            response_model=route.response_model,
            response_model_exclude_none=True,
            response_model_by_alias=True,
            responses={400: {"description": "Asked wrongly; every fault is named"}},
        )


_take_over(features)
_take_over(tiles)
