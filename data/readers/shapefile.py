"""The parts of a Shapefile: out of its archive, and the encoding of its table of attributes."""

from __future__ import annotations

import errno
import shutil
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from geo.errors import InvalidInput, TooLarge

PARTS: Final = (".shp", ".shx", ".dbf", ".prj", ".cpg")


def unpack_shapefile(
    archive: zipfile.ZipFile, members: Iterable[zipfile.ZipInfo], folder: Path
) -> Path:
    """The one Shapefile among `members` as `folder/file.shp` with its companions.

    Raises InvalidInput when there are several or the archive is damaged.
    """
    parts = {part.filename: part for part in members}
    main = [name for name in parts if name.lower().endswith(".shp")]
    if len(main) > 1:
        shown = ", ".join(sorted(main)[:10])
        raise InvalidInput(f"the archive holds several Shapefiles ({shown}); send one at a time")
    stem = main[0][:-4]
    for name, part in parts.items():
        if name[:-4] == stem and name[-4:].lower() in PARTS:
            unpack_member(archive, part, folder / f"file{name[-4:].lower()}")
    return folder / "file.shp"


def unpack_member(archive: zipfile.ZipFile, part: zipfile.ZipInfo, target: Path) -> None:
    """One member, never more bytes than the archive says it has."""
    try:
        with archive.open(part) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise InvalidInput("the archive is damaged or incomplete") from error
    except OSError as error:
        if error.errno not in (errno.EFBIG, errno.ENOSPC):
            raise
        raise TooLarge("the archive unpacks to more than may be written here") from error


def table_encoding(path: Path) -> str | None:
    """GB18030 for an attribute table that does not say its encoding and is not UTF-8; else None,
    which leaves it to what the file says. Chinese Shapefiles are often written so."""
    table = path.with_suffix(".dbf")
    if path.with_suffix(".cpg").exists() or not table.exists():
        return None
    with table.open("rb") as file:
        head = file.read(32)
        if len(head) < 32 or head[29] not in (0x00, 0x57):
            return None
        file.seek(int.from_bytes(head[8:10], "little"))
        records = file.read(1 << 20)
    try:
        records[: records.rfind(b" ") + 1].decode("utf-8")
    except UnicodeDecodeError:
        return "GB18030"
    return "UTF-8"
