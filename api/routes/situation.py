"""The situation: stored bytes for now, computed for the past, and its stream of changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from functools import lru_cache
from typing import Annotated

import orjson
from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from api.answers import json_answer, tagged_answer
from api.deps import At, Caller, LangDep, Services, ServicesDep, Still, StillDep
from api.parts import BuilderPart
from api.routing import make_router
from api.situations import Event, Listener, Situations
from api.withheld import bytes_told_to, told_to
from data.accounts import Account
from data.builder import localised
from data.database import reading
from data.situation import document, moment_at, shown_at
from geo.errors import Fault, InvalidInput, Unavailable

WAIT_S = 2.0
KEEPALIVE_S = 15.0
STILL_S = 0.4

router = make_router("situation")


@router.get(
    "/v1/situation",
    summary="The graded situation, now or as it was known",
    responses={304: {"description": "Not changed since that ETag"}},
)
async def read_situation(
    request: Request,
    services: ServicesDep,
    account: Caller,
    lang: LangDep,
    at: At,
    min_sequence: Annotated[
        int | None, Query(ge=0, description="Wait up to 2 s until this write is included.")
    ] = None,
) -> Response:
    """Levels, findings and bounds of each plan; every district's figures. With `at`, only what had
    been received by then, under the divisions, inventory and rules in force then. Ids of incidents
    the caller may not read are null."""
    if at is not None:
        return await run_in_threadpool(_past, services, account, at, lang)
    situations = services.get(Situations)
    found = situations.latest(lang)
    if found is None or (min_sequence is not None and found.sequence < min_sequence):
        wanted = min_sequence or 0
        found = await run_in_threadpool(situations.wait_for, lang, wanted, WAIT_S)
        if found is None:
            raise Unavailable(f"the situation has not reached sequence {wanted} yet; ask again")
    return tagged_answer(request, *bytes_told_to(found.body, found.etag, account))


def _past(services: Services, account: Account, at: datetime, lang: str) -> Response:
    settings = services.configuration.situation
    with reading(services.engine, snapshot=True) as connection:
        area = services.get(BuilderPart).area
        shown = shown_at(connection, moment_at(connection, at), services.packs, settings, area)
    told = told_to(localised(document(shown), lang), account)
    return json_answer(told, headers={"Cache-Control": "no-store"})


@router.get(
    "/v1/situation/stream",
    summary="Server-sent events: situation, incident, warning, response",
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def stream(
    request: Request,
    services: ServicesDep,
    account: Caller,
    still: StillDep,
    last_event_id: Annotated[
        str | None, Query(description="As the header, for readers that cannot set one.")
    ] = None,
) -> Response:
    """`id` is the sequence; after a break the browser's `Last-Event-ID` replays what was missed.
    The first event is always the newest situation. Incidents outside the account's districts are
    left out. It ends within a second of the end of the credential that opened it."""
    situations = services.get(Situations)
    after = _last_event_id(request.headers.get("last-event-id") or last_event_id)
    if situations.ending:
        raise Unavailable("the service is stopping; connect again")
    listener = Listener(asyncio.get_running_loop(), account.scope)
    situations.listen(listener)
    try:
        replayed = await run_in_threadpool(situations.replay, after, account.scope)
    except BaseException:
        situations.leave(listener)
        raise
    return EventStream(situations, listener, still, _relay(listener, replayed, account))


class EventStream(StreamingResponse):
    """A stream that leaves the listeners however it ends. It is cut off when its reader does not
    keep up, for a blocked send would otherwise hold it for ever, and when `still` says that the
    reader is no longer who was let in: revoked, locked, signed out, expired, of another scope."""

    def __init__(
        self,
        situations: Situations,
        listener: Listener,
        still: Still,
        content: AsyncIterator[bytes],
    ) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._situations = situations
        self._listener = listener
        self._still = still

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(super().__call__(scope, receive, send))
        ends = [
            asyncio.ensure_future(self._listener.dropped.wait()),
            asyncio.ensure_future(self._let_in_no_more()),
        ]
        try:
            await asyncio.wait((sending, *ends), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await sending
        finally:
            self._situations.leave(self._listener)
            for one in (sending, *ends):
                one.cancel()
            await asyncio.wait((sending, *ends))

    async def _let_in_no_more(self) -> None:
        while await self._still():
            await asyncio.sleep(STILL_S)
        self._listener.offer([None])
        await asyncio.sleep(STILL_S)  # for the end to be sent; one that does not read is cut off


def _last_event_id(given: str | None) -> int | None:
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 18):
        raise InvalidInput(
            [Fault("must be the id of an event of this stream", None, "Last-Event-ID")]
        )
    return int(given)


async def _relay(
    listener: Listener, replayed: list[Event], account: Account
) -> AsyncIterator[bytes]:
    last = max((event.id for event in replayed), default=0)
    for event in replayed:
        if _may_see(account, event):
            yield _framed(event)
    while True:
        try:
            event_or_end = await asyncio.wait_for(listener.queue.get(), KEEPALIVE_S)
        except TimeoutError:
            yield KEEPALIVE_COMMENT
            continue
        if event_or_end is None:
            return
        if event_or_end.id > last and _may_see(account, event_or_end):
            yield _framed(event_or_end)


def _may_see(account: Account, event: Event) -> bool:
    return event.kind != "incident" or account.sees(event.adcode)


@lru_cache(maxsize=256)
def _bytes(sequence: int, kind: str, payload: bytes) -> bytes:
    return format_sse_event(data_str=payload.decode(), event=kind, id=str(sequence))


def _framed(event: Event) -> bytes:
    return _bytes(event.sequence, event.kind, orjson.dumps(event.payload))
