"""Incidents from files: all rows or none, with progress for those who ask for it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial as bound
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from fastapi import Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import StreamingResponse

from api.answers import json_answer
from api.deps import Caller, LangDep, Services, ServicesDep
from api.language import Lang
from api.messages import rejected_rows
from api.problems import answer_error, problem
from api.routing import make_router
from api.schemas import file_body
from data.accounts import Account
from data.attachments import FOLDER
from data.blobs import BlobFolder
from data.incident_import import Progress, RefusedFile, import_incidents
from data.incident_template import incident_template_csv, incident_template_xlsx
from data.readers.incident_file import parse_incident_file
from geo.errors import Fault, InvalidInput

router = make_router("incidents")

NDJSON = "application/x-ndjson"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
MAX_FIELDS = 20
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
    """One upload, spooled to `path` in a folder of its own, and what was said beside it."""

    path: Path
    name: str
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
            }
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
    attached to the incident it makes. `dry_run` answers the same without storing anything.

    With `Accept: application/x-ndjson` the answer is 200 and lines: `{"done", "of"}` in rows while
    it is being read, then, last, the receipt, or the problem with its `status`."""
    folder = tempfile.mkdtemp(prefix="yutu-import-")
    try:
        asked = await _spooled(request, Path(folder), account, lang, partial, dry_run)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    job = bound(_import, services, asked)
    if NDJSON in request.headers.get("accept", ""):
        return StreamingResponse(_lines(job, lang), media_type=NDJSON)
    return await run_in_threadpool(job, None)


async def _spooled(
    request: Request, folder: Path, account: Account, lang: Lang, partial: bool, dry_run: bool
) -> _Asked:
    """The upload on disk; never whole in memory. Raises InvalidInput without a file."""
    async with request.form(max_files=1, max_fields=MAX_FIELDS) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            reason = "is missing; send multipart/form-data with the file in the part `file`"
            raise InvalidInput([Fault(reason, None, "file")])
        texts = {name: value for name, value in form.items() if isinstance(value, str)}
        asked = {**request.query_params, **texts}
        name = Path(file.filename or "file").name
        path = folder / f"upload{Path(name).suffix.lower()[:12]}"
        with path.open("wb") as out:
            await run_in_threadpool(shutil.copyfileobj, file.file, out)
    return _Asked(
        path,
        name,
        {key: asked[key] for key in SAID if asked.get(key)},
        partial or _true(texts.get("partial")),
        dry_run or _true(texts.get("dry_run")),
        account,
        lang,
    )


def _true(value: str | None) -> bool:
    return (value or "").lower() in ("true", "1")


def _import(services: Services, asked: _Asked, progress: Progress | None) -> Response:
    """Read and store; the folder of the upload is gone afterwards."""
    try:
        file = parse_incident_file(
            asked.path,
            name=asked.name,
            crs=asked.said.get("crs"),
            plan=asked.said.get("plan"),
            kind=asked.said.get("kind"),
            owner=asked.account.username,
            progress=progress,
        )
        receipt = import_incidents(
            services.engine,
            file,
            original=asked.path,
            account=asked.account,
            packs=services.packs,
            blobs=BlobFolder(services.configuration.paths.var / FOLDER),
            lang=asked.lang,
            dry_run=asked.dry_run,
            partial=asked.partial,
            request={"file": asked.name, **asked.said},
            progress=progress,
        )
    except RefusedFile as error:
        return problem(
            422,
            "nothing was imported; every rejected row is listed",
            lang=asked.lang,
            faults=error.faults,
            accepted=0,
            rejected=rejected_rows(error.faults, asked.lang),
        )
    finally:
        shutil.rmtree(asked.path.parent, ignore_errors=True)
    return json_answer(receipt.json(rejected_rows(receipt.rejected, asked.lang)))


async def _lines(job: Callable[[Progress], Response], lang: Lang) -> AsyncIterator[bytes]:
    """Progress as it is made, then the answer. Who goes away does not stop what was begun."""
    loop = asyncio.get_running_loop()
    steps: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue()

    def step(done: int, of: int) -> None:
        loop.call_soon_threadsafe(steps.put_nowait, (done, of))

    async def work() -> Response:
        try:
            return await run_in_threadpool(job, step)
        except Exception as error:  # the status line has been sent: the problem is the last line
            return answer_error(error, lang)
        finally:
            steps.put_nowait(None)

    working = asyncio.ensure_future(work())
    while (one := await steps.get()) is not None:
        yield orjson.dumps({"done": one[0], "of": one[1]}) + b"\n"
    yield bytes((await working).body) + b"\n"


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
