"""The inventory from files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from api.answers import json_answer
from api.deps import Caller, LangDep, Services, ServicesDep
from api.language import Lang
from api.messages import rejected_rows
from api.problems import problem
from api.routing import make_router
from api.schemas import file_body
from data.accounts import Account
from data.facilities import import_facilities
from data.facility_columns import template_csv, template_xlsx
from data.facility_file import read_facility_file
from data.facility_rows import facility_rows
from geo.errors import Fault, InvalidInput

router = make_router("facilities")

MAX_FIELDS = 60
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
FIELDS = {
    "kind": {"type": "string", "description": "Of every row that does not say one itself."},
    "crs": {"type": "string", "description": "WGS84, CGCS2000, GCJ-02, BD-09 or EPSG:<n>."},
    "map": {
        "type": "array",
        "items": {"type": "string"},
        "description": "FIELD=COLUMN, repeated, where headers are not recognised.",
    },
}


@router.post(
    "/v1/facilities/import",
    summary="Import facilities from a file",
    openapi_extra=file_body(FIELDS),
)
async def import_file(
    request: Request,
    services: ServicesDep,
    account: Caller,
    lang: LangDep,
    partial: Annotated[
        bool, Query(description="Take the good rows although others are bad.")
    ] = False,
) -> Response:
    """CSV, XLSX, GeoJSON, GPKG, Parquet … All rows or none, unless `partial`; the same file again
    changes nothing. Every rejected row is listed with its field and reason: `row` 1 is the first
    under the header, `line` where it begins in a CSV or a sheet. `unread` are the columns no field
    was read from; `map` names them."""
    async with request.form(max_files=1, max_fields=MAX_FIELDS) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            reason = "is missing; send multipart/form-data with the file in the part `file`"
            raise InvalidInput([Fault(reason, None, "file")])
        asked = {**request.query_params, **{k: v for k, v in form.items() if isinstance(v, str)}}
        said: dict[str, str] = {key: asked[key] for key in ("kind", "crs") if key in asked}
        mapping = [one for one in form.getlist("map") if isinstance(one, str)]
        given = partial or str(form.get("partial", "")).lower() in ("true", "1")
        body = await file.read()
        name = Path(file.filename or "file").name
    return await run_in_threadpool(
        _import, services, account, body, name, said, mapping, given, lang
    )


def _import(
    services: Services,
    account: Account,
    body: bytes,
    name: str,
    said: dict[str, str],
    mapping: list[str],
    partial: bool,
    lang: Lang,
) -> Response:
    with tempfile.TemporaryDirectory(prefix="yutu-import-") as folder:
        path = Path(folder, f"upload{Path(name).suffix.lower()[:12]}")
        path.write_bytes(body)
        table = read_facility_file(path, name, crs=said.get("crs") or None)
    try:
        rows = facility_rows(
            table, kind=said.get("kind") or None, mapping=_mapping(mapping), partial=partial
        )
    except InvalidInput as error:
        if not any(fault.row for fault in error.faults):
            raise
        return problem(
            422,
            "nothing was imported; every rejected row is listed",
            lang=lang,
            faults=error.faults,
            accepted=0,
            rejected=rejected_rows(error.faults, lang, table.lines),
        )
    imported = None
    if len(rows.frame):
        imported = import_facilities(
            services.engine,
            rows.frame,
            account=account.username,
            body=body,
            content_type="application/octet-stream",
            request={"file": name, **said, "map": mapping, "partial": partial},
        )
    return json_answer(
        {
            "accepted": len(rows.frame),
            "rejected": rejected_rows(rows.rejected, lang, table.lines),
            "created": imported.created if imported else 0,
            "edited": imported.edited if imported else 0,
            "unchanged": imported.unchanged if imported else 0,
            "unread": list(rows.unread),
            "sequence": imported.sequence if imported else None,
        }
    )


def _mapping(given: list[str]) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for one in given:
        field, separator, expression = one.partition("=")
        if not separator or field.strip() in mapping:
            raise InvalidInput([Fault(f"{one!r} is not FIELD=COLUMN, once a field", None, "map")])
        mapping[field.strip()] = expression
    return mapping


@router.get("/v1/facilities/template", summary="An empty file to fill")
def template(
    kind: str,
    format: Literal["csv", "xlsx"] = "csv",
    lang: Literal["zh", "en"] = "zh",
) -> Response:
    """A header and one example row for a kind of facility."""
    body = template_csv(kind, lang) if format == "csv" else template_xlsx(kind, lang)
    return Response(
        body,
        media_type="text/csv; charset=utf-8" if format == "csv" else XLSX,
        headers={"Content-Disposition": f'attachment; filename="{kind}.{format}"'},
    )
