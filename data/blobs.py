"""Files kept by the SHA-256 of their bytes below one folder; on disk before anyone refers to them.

A file nobody refers to (its row was never committed) is harmless, and the same bytes are kept once.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from geo.errors import Unavailable


class BlobFolder:
    """`folder/ab/abcdef…`: one file a hash, readable by this account alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: bytes) -> Path:
        name = sha256.hex()
        return self.folder / name[:2] / name

    def put(self, body: bytes) -> bytes:
        """Store `body`, flushed to disk with its folder on return; its SHA-256.

        Raises Unavailable when the disk does not take it.
        """
        sha256 = hashlib.sha256(body).digest()
        path = self.path(sha256)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        try:
            _make(path.parent)
            try:
                with os.fdopen(_new(draft), "wb") as out:
                    out.write(body)
                    out.flush()
                    os.fsync(out.fileno())
                draft.replace(path)  # also heals a damaged file of that name
            finally:
                draft.unlink(missing_ok=True)
            _flush(path.parent)
        except OSError:
            raise Unavailable("the file cannot be stored now; send it again later") from None
        return sha256

    def get(self, sha256: bytes) -> bytes:
        """The bytes, whose hash was computed anew. Raises Unavailable when lost or damaged."""
        try:
            body = self.path(sha256).read_bytes()
        except OSError:
            raise Unavailable("the stored file cannot be read") from None
        if hashlib.sha256(body).digest() != sha256:
            raise Unavailable("the stored file is damaged; restore it from a backup")
        return body


def _new(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _make(folder: Path) -> None:
    """Create a folder with those above it, each entry flushed."""
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _flush(folder.parent)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
