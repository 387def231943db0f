"""ZIP archives from strangers: looked through before anything in them is unpacked."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from geo.errors import InvalidInput, TooLarge

MEMBERS_MAX: Final = 2_000
UNPACKED_MAX: Final = 128 << 20
"""Bytes of all members together."""
RATIO_MAX: Final = 200
"""How many times its packed size a member of over a mebibyte may have."""
_DAMAGED: Final = (
    zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError,
    ValueError,
)  # fmt: skip


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, if nothing in it is out of place. Raises InvalidInput or TooLarge.

    Refused: members outside the archive's own folder (`../`, absolute), links, encrypted or
    repeated members, more members or bytes than the limits, bombs. A member never yields more
    bytes than it says it has: `zipfile` stops there.
    """
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGED as error:
        raise InvalidInput("the archive is damaged or incomplete") from error
    with archive:
        _look_through(archive)
        yield archive


def _look_through(archive: zipfile.ZipFile) -> None:
    parts = archive.infolist()
    if len(parts) > MEMBERS_MAX:
        raise TooLarge(f"the archive has {len(parts)} members, more than {MEMBERS_MAX}")
    if len({part.filename for part in parts}) < len(parts):
        raise InvalidInput("the archive names a member twice")
    if sum(part.file_size for part in parts) > UNPACKED_MAX:
        raise TooLarge(f"the archive unpacks to more than {UNPACKED_MAX >> 20} MiB")
    for part in parts:
        steps = part.filename.replace("\\", "/").split("/")
        if ".." in steps or steps[0] == "" or ":" in steps[0] or "\0" in part.orig_filename:
            raise InvalidInput("the archive holds a path that leads out of it; pack it anew")
        if stat.S_ISLNK(part.external_attr >> 16):
            raise InvalidInput("the archive holds a link to another file; pack the file itself")
        if part.flag_bits & 1:
            raise InvalidInput("the archive is encrypted; send it without a password")
        if part.file_size > 1 << 20 and part.file_size > RATIO_MAX * max(part.compress_size, 1):
            raise TooLarge(
                f"a member of the archive unpacks to over {RATIO_MAX} times its packed size"
            )


def check_members(archive: zipfile.ZipFile) -> None:
    """Unpack every member to nowhere: each has the length and checksum it says it has."""
    try:
        broken = archive.testzip()
    except _DAMAGED as error:
        raise InvalidInput("the archive is damaged or incomplete") from error
    if broken is not None:
        raise InvalidInput("the archive is damaged or incomplete")


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """One member. Raises InvalidInput when it is damaged."""
    try:
        with archive.open(name) as member:
            # In blocks: read() at once would unpack all there is before it looks at the length.
            return b"".join(iter(lambda: member.read(1 << 16), b""))
    except _DAMAGED as error:
        raise InvalidInput("the archive is damaged or incomplete") from error
