"""Incidents from files: all rows or none, with progress for those who ask for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial as bound
from typing import Annotated, Any, Literal

import orjson
from fastapi import Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from api.answers import json_answer
from api.deps import Caller, LangDep, Services, ServicesDep
from api.language import Lang
from api.messages import rejected_rows
from api.problems import answer_error, problem
from api.routing import make_router
from api.schemas import file_body
from api.upload import Upload, receive_upload
from data.accounts import Account
from data.attachments import FOLDER
from data.blobs import BlobFolder
from data.incident_import import Progress, RefusedFile, import_incidents
from data.incident_template import incident_template_csv, incident_template_xlsx
from data.parse_settings import ParseSettings
from data.readers.incident_file import parse_incident_file
from geo.errors import Unavailable

router = make_router("incidents")

NDJSON = "application/x-ndjson"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
FIELDS_MAX = 20
#: Files this process holds beside those it reads at once; each occupies a thread meanwhile.
WAITING_MAX = 6
SAID = ("plan", "kind", "crs")
FIELDS = {
    "plan": {"type": "string", "description": "Of every row that does not say one itself."},
    "kind": {"type": "string", "description": "Of every row that does not say one itself."},
    "crs": {"type": "string", "description": "WGS84, CGCS2000, GCJ-02, BD-09 or EPSG:<n>."},
    "partial": {"type": "boolean", "description": "As in the query."},
    "dry_run": {"type": "boolean", "description": "As in the query."},
}


@dataclass(frozen=True)
class _Asked:
    """A file and what is to become of it."""

    upload: Upload
    said: dict[str, str]
    partial: bool
    dry_run: bool
    account: Account
    lang: Lang


@router.post(
    "/v1/incidents/import",
    summary="Import incidents from a file",
    openapi_extra=file_body(FIELDS)
    | {
        "responses": {
            "200": {
                "description": "What became of each row",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    NDJSON: {"schema": {"type": "string"}},
                },
            },
            "422": {"description": "Nothing was stored; `rejected` lists every wrong row"},
        }
    },
)
async def import_file(
    request: Request,
    services: ServicesDep,
    account: Caller,
    lang: LangDep,
    partial: Annotated[
        bool, Query(description="Take the good rows although others are bad.")
    ] = False,
    dry_run: Annotated[bool, Query(description="Check everything and store nothing.")] = False,
) -> Response:
    """GeoJSON, CSV, XLSX, GPX, KML, KMZ, zipped SHP, GPKG, or a JPEG or HEIC with its position.

    All rows or none, unless `partial`; the same file again gives duplicates only. Every rejected
    row is listed with field and reason; `incidents` says of each row whether it was `created`, is a
    `duplicate` or a `conflict`, where it lies and what is probably the same accident. A photo is
    attached to the incident it makes. `dry_run` stores nothing and answers 200 with the same, with
    `would_create` instead of `created`; `refused` says whether the whole file would be.

    With `Accept: application/x-ndjson` the answer is 200 and lines: `{"stage", "done", "of"}` in
    rows while the file is read, checked, placed and stored, then, last, the receipt, or the problem
    with its `status`."""
    upload = await receive_upload(
        request, fields_max=FIELDS_MAX, file_bytes_max=ParseSettings.load().file_mib << 20
    )
    try:
        asked = _Asked(
            upload,
            {key: text for key in SAID if (text := upload.text(key))},
            partial or upload.flag("partial"),
            dry_run or upload.flag("dry_run"),
            account,
            lang,
        )
    except BaseException:
        upload.discard()
        raise
    steps: asyncio.Queue[bytes | None] | None = None
    if NDJSON in request.headers.get("accept", ""):
        steps = asyncio.Queue()
    # A task of its own: who goes away does not stop what was begun, nor leave the file behind.
    working = asyncio.create_task(_work(services, asked, steps))
    _begun.add(working)
    working.add_done_callback(_begun.discard)
    if steps is not None:
        return StreamingResponse(_lines(steps, working), media_type=NDJSON)
    return await asyncio.shield(working)


#: Held, since an event loop by itself does not keep its tasks.
_begun: set[asyncio.Task[Response]] = set()


class _Turns:
    """How many files this process holds, read and waiting."""

    def __init__(self) -> None:
        self._held = 0
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, held_max: int) -> Iterator[None]:
        with self._lock:
            if self._held >= held_max:
                raise Unavailable("too many files are being read now; send it again later", 5)
            self._held += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= 1


_turns = _Turns()


async def _work(
    services: Services, asked: _Asked, steps: asyncio.Queue[bytes | None] | None
) -> Response:
    """The whole import; its answer, also to what went wrong. The file is gone afterwards."""
    loop = asyncio.get_running_loop()

    def step(stage: str, done: int, of: int) -> None:
        if services.stopping.is_set():
            raise Unavailable("the server is stopping; send the file again", 5)
        if steps is not None:
            line = orjson.dumps({"stage": stage, "done": done, "of": of}) + b"\n"
            loop.call_soon_threadsafe(steps.put_nowait, line)

    try:
        with _turns.turn(ParseSettings.load().at_once + WAITING_MAX):
            return await run_in_threadpool(_import, services, asked, step)
    except Exception as error:  # here, since after lines of progress no handler could answer it
        return answer_error(error, asked.lang)
    finally:
        asked.upload.discard()
        if steps is not None:
            steps.put_nowait(None)


def _import(services: Services, asked: _Asked, step: Progress) -> Response:
    """Read the file, store its incidents, tell what became of each."""
    upload, lang = asked.upload, asked.lang
    file = parse_incident_file(
        upload.path,
        name=upload.name,
        crs=asked.said.get("crs"),
        plan=asked.said.get("plan"),
        kind=asked.said.get("kind"),
        owner=asked.account.username,
        progress=bound(step, "read"),
    )
    try:
        receipt = import_incidents(
            services.engine,
            file,
            original=upload.path,
            account=asked.account,
            packs=services.packs,
            blobs=BlobFolder(services.configuration.paths.var / FOLDER),
            lang=lang,
            dry_run=asked.dry_run,
            partial=asked.partial,
            request={"file": upload.name, **asked.said},
            progress=step,
        )
    except RefusedFile as error:
        return problem(
            422,
            "nothing was imported; every rejected row is listed",
            lang=lang,
            faults=error.faults,
            accepted=0,
            duplicates=0,
            rejected=rejected_rows(error.faults, lang, file.lines),
            incidents=[],
        )
    return json_answer(receipt.json(rejected_rows(receipt.rejected, lang, file.lines)))


async def _lines(
    steps: asyncio.Queue[bytes | None], working: asyncio.Task[Response]
) -> AsyncIterator[bytes]:
    """Progress as it is made, then the answer."""
    while (line := await steps.get()) is not None:
        yield line
    yield bytes((await asyncio.shield(working)).body) + b"\n"


@router.get("/v1/incidents/import/template", summary="An empty file to fill")
def template(
    services: ServicesDep,
    format: Literal["csv", "xlsx"] = "csv",
    plan: Annotated[str | None, Query(max_length=100)] = None,
    lang: Literal["zh", "en"] = "zh",
) -> Response:
    """A header and one example row, which imports as it stands; delete it before filling in."""
    make: Callable[..., Any] = incident_template_csv if format == "csv" else incident_template_xlsx
    return Response(
        make(services.packs, plan, lang),
        media_type="text/csv; charset=utf-8" if format == "csv" else XLSX,
        headers={"Content-Disposition": f'attachment; filename="incidents.{format}"'},
    )
