"""Scripts and stylesheets of the pages: the listed files and no folder."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import Request, Response

from api.answers import tagged_answer
from api.docs import swagger_files
from api.routing import make_router
from geo.errors import NotFound
from maps.assets import static_files

CACHE = "public, max-age=300"  # then by ETag: a name is kept over versions

router = make_router("pages")


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file in memory."""

    body: bytes
    media_type: str
    etag: str


@router.get("/static/{path:path}", include_in_schema=False)
def static(request: Request, path: str) -> Response:
    found = files().get(f"/static/{path}")
    if found is None:
        raise NotFound("there is no such file")
    return tagged_answer(request, found.body, found.etag, media_type=found.media_type, cache=CACHE)


@cache
def files() -> dict[str, StaticFile]:
    """URL path → file. A file that is not installed is left out; `missing` names it."""
    return {url: _read(path) for url, path in _paths().items() if path.is_file()}


def missing() -> list[Path]:
    """Files the pages need that are not installed (`make setup` does)."""
    return [path for path in _paths().values() if not path.is_file()]


def _paths() -> dict[str, Path]:
    return {**static_files(), **swagger_files()}


def _read(path: Path) -> StaticFile:
    body = path.read_bytes()
    kind = "text/javascript" if path.suffix == ".js" else mimetypes.guess_type(path.name)[0]
    if kind in {"text/javascript", "text/css"}:
        kind += "; charset=utf-8"
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return StaticFile(body, kind or "application/octet-stream", etag)
