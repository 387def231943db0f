"""A file sent as multipart/form-data: on disk, with what was said beside it."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from data.scratch import make_scratch, remove_scratch
from geo.errors import Fault, InvalidInput, TooLarge

#: What a form has around its file: the other parts, boundaries, headers.
FORM_BYTES_MAX: Final = 1 << 20
NAME_CHARACTERS_MAX: Final = 200
_SUFFIX: Final = re.compile(r"\.[a-z0-9]{1,11}")
_TRUTH: Final = {
    **dict.fromkeys(("", "false", "0", "no", "off", "f", "n"), False),
    **dict.fromkeys(("true", "1", "yes", "on", "t", "y"), True),
}


@dataclass(frozen=True)
class Upload:
    """`path` ends like the sender's `name`, which is for showing only, and so is `media_type`;
    `parts` are the texts of the query and, behind them, of the form. Whoever holds it discards it.
    """

    path: Path
    name: str
    media_type: str
    parts: tuple[tuple[str, str], ...]

    def discard(self) -> None:
        """The file is no longer needed; nothing of it stays on disk."""
        remove_scratch(self.path.parent)

    def text(self, name: str) -> str | None:
        """The last non-empty text of that name. Raises InvalidInput for one that cannot be kept."""
        said = [value for known, value in self.parts if known == name and value.strip()]
        if not said:
            return None
        if "\0" in said[-1] or len(said[-1]) > NAME_CHARACTERS_MAX:
            reason = f"must be a text of at most {NAME_CHARACTERS_MAX} characters"
            raise InvalidInput([Fault(reason, None, name)])
        return said[-1].strip()

    def texts(self, name: str) -> list[str]:
        """Every text of that name, in order."""
        return [value for known, value in self.parts if known == name]

    def flag(self, name: str) -> bool:
        """Whether one of that name says yes. Raises InvalidInput for a word that is neither."""
        said = [_TRUTH.get(value.strip().lower()) for value in self.texts(name)]
        if None in said:
            raise InvalidInput([Fault("must be true or false", None, name)])
        return any(said)


async def receive_upload(
    request: Request, *, fields_max: int, file_bytes_max: int | None = None
) -> Upload:
    """The part `file` of the form, never whole in memory, and the other parts.

    Raises InvalidInput without a file; TooLarge, before anything is read, when the announced size
    is beyond `file_bytes_max`.
    """
    announced = request.headers.get("content-length", "0")
    if file_bytes_max is not None and int(announced) > file_bytes_max + FORM_BYTES_MAX:
        raise TooLarge(f"the file has {announced} bytes; {file_bytes_max >> 20} MiB are taken")
    form = await _form(request, fields_max)
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            reason = "is missing; send multipart/form-data with the file in the part `file`"
            raise InvalidInput([Fault(reason, None, "file")])
        name = _shown(Path(file.filename or "").name)
        texts = [(key, value) for key, value in form.multi_items() if isinstance(value, str)]
        suffix = Path(name).suffix.lower()
        folder = make_scratch("import")
        try:
            path = folder / f"upload{suffix if _SUFFIX.fullmatch(suffix) else ''}"
            with path.open("wb") as out:
                await run_in_threadpool(shutil.copyfileobj, file.file, out)
        except BaseException:
            remove_scratch(folder)
            raise
    finally:
        await form.close()
    said = (file.content_type or "").partition(";")[0].strip().lower()
    return Upload(path, name, said, (*request.query_params.multi_items(), *texts))


class _Form(MultiPartParser):
    """Starlette's parser, which by itself takes a form that breaks off for one that is whole."""

    whole = False

    def on_end(self) -> None:
        self.whole = True


async def _form(request: Request, fields_max: int) -> FormData:
    """The parts of a whole form with at most one file. Raises InvalidInput."""
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said != "multipart/form-data":
        return FormData()
    parser = _Form(request.headers, _body(request), max_files=1, max_fields=fields_max)
    try:
        form = await parser.parse()
    except MultiPartException:
        reason = f"the form cannot be read; send one file and at most {fields_max} other parts"
        raise InvalidInput([Fault(reason)]) from None
    if not parser.whole:
        await form.close()
        raise InvalidInput([Fault("the form breaks off before its end; send it again")])
    return form


async def _body(request: Request) -> AsyncGenerator[bytes, None]:
    async with aclosing(request.stream()) as stream:
        async for block in stream:
            yield block


def _shown(name: str) -> str:
    """A name without what no screen shows, cut in its middle when it is too long."""
    plain = "".join(letter for letter in name if letter.isprintable()).strip()
    if len(plain) > NAME_CHARACTERS_MAX:
        plain = plain[: NAME_CHARACTERS_MAX // 2] + plain[-(NAME_CHARACTERS_MAX // 2) :]
    return plain or "file"
