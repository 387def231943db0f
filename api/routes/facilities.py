"""The inventory from files."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api.answers import json_answer
from api.deps import Caller, LangDep, Services, ServicesDep
from api.language import Lang
from api.messages import rejected_rows
from api.problems import problem
from api.routing import make_router
from api.schemas import file_body
from api.upload import Upload, receive_upload
from data.accounts import Account
from data.facilities import import_facilities
from data.facility_columns import template_csv, template_xlsx
from data.facility_file import parse_facility_file
from data.facility_rows import facility_rows
from geo.errors import Fault, InvalidInput

router = make_router("facilities")

FIELDS_MAX = 60
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
    upload = await receive_upload(request, fields_max=FIELDS_MAX)
    try:
        return await run_in_threadpool(_import, services, account, upload, partial, lang)
    finally:
        upload.discard()


def _import(
    services: Services, account: Account, upload: Upload, partial: bool, lang: Lang
) -> Response:
    said = {key: text for key in ("kind", "crs") if (text := upload.text(key))}
    maps = upload.texts("map")
    mapping = _mapping(maps)
    partial = partial or upload.flag("partial")
    table = parse_facility_file(upload.path, upload.name, crs=said.get("crs"), mapping=mapping)
    try:
        rows = facility_rows(table, kind=said.get("kind"), mapping=mapping, partial=partial)
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
            body=upload.path.read_bytes(),
            content_type="application/octet-stream",
            request={"file": upload.name, **said, "map": maps, "partial": partial},
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
