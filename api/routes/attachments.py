"""Photos and documents of incidents: sent once, shown as copies, originals for those allowed."""

from __future__ import annotations

from uuid import UUID

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from api.answers import json_answer
from api.deps import Caller, Services, ServicesDep
from api.routing import make_router
from api.schemas import file_body
from data.attachments import (
    FOLDER,
    AttachedFile,
    attached_file,
    list_attachments,
    read_attachment_id,
    store_attachment,
)
from data.blobs import BlobFolder
from geo.errors import Fault, InvalidInput

router = make_router("attachments")

#: Nothing in such an answer is ever run, embedded or guessed at.
INERT = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}
FIELDS = {
    "attachment_id": {"type": "string", "format": "uuid", "description": "Made by the client."}
}


def _blobs(services: Services) -> BlobFolder:
    return BlobFolder(services.configuration.paths.var / FOLDER)


@router.post(
    "/v1/incidents/{incident_id}/attachments",
    summary="Attach a photo or a PDF to an incident",
    status_code=201,
    openapi_extra=file_body(FIELDS)
    | {
        "responses": {
            "200": {"description": "Stored before, the same file"},
            "409": {"description": "The id holds another file"},
        }
    },
)
async def attach(
    request: Request, services: ServicesDep, account: Caller, incident_id: UUID
) -> Response:
    """Safe to repeat with the same `attachment_id`. JPEG, PNG, HEIC, WebP or PDF, by content."""
    async with request.form(max_files=1, max_fields=4) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise InvalidInput([Fault("is missing; send the file in this part", None, "file")])
        attachment_id = read_attachment_id(form.get("attachment_id"))
        body = await file.read()
        name = file.filename or ""
    stored = await run_in_threadpool(
        store_attachment,
        services.engine,
        _blobs(services),
        incident_id,
        attachment_id,
        body,
        file_name=name,
        account=account,
    )
    return json_answer(stored.json, 201 if stored.status == "created" else 200)


@router.get("/v1/incidents/{incident_id}/attachments", summary="What is attached to an incident")
def attachments(services: ServicesDep, account: Caller, incident_id: UUID) -> Response:
    found = list_attachments(services.engine, incident_id, account)
    return json_answer({"attachments": found}, headers={"Cache-Control": "private, no-store"})


@router.get(
    "/v1/incidents/{incident_id}/attachments/{attachment_id}", summary="A picture to look at"
)
def display(
    services: ServicesDep, account: Caller, incident_id: UUID, attachment_id: UUID
) -> Response:
    """A JPEG of at most 1600 pixels a side, without the original's metadata."""
    blobs = _blobs(services)
    file = attached_file(
        services.engine, blobs, incident_id, attachment_id, account, original=False
    )
    return _inert(file, "inline")


@router.get(
    "/v1/incidents/{incident_id}/attachments/{attachment_id}/original",
    summary="The file as it was sent",
)
def original(
    services: ServicesDep, account: Caller, incident_id: UUID, attachment_id: UUID
) -> Response:
    """For commanders, administrators and whoever sent it; always as a download."""
    blobs = _blobs(services)
    file = attached_file(services.engine, blobs, incident_id, attachment_id, account, original=True)
    return _inert(file, "attachment")


def _inert(file: AttachedFile, disposition: str) -> Response:
    headers = {**INERT, "Content-Disposition": f'{disposition}; filename="{file.name}"'}
    return Response(file.body, headers=headers, media_type=file.media_type)
