"""Files made for one answer: written whole under `var/exports`, sent, and removed."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, text

from data.accounts import Account
from data.audit import record
from data.export_files import check_format, write_export
from data.export_rows import Wanted, count_rows, export_of
from data.rulepacks import RulePacks
from data.settings import SituationSettings
from data.situation import AreaShares, document, moment_at, shown_at
from data.workbook import ROWS_MAX
from geo.errors import InvalidInput, Unavailable

AT_ONCE = 2
WAIT_S = 10.0
RETRY_AFTER_S = 20
KEPT_S = 3600.0


class SituationDocument:
    """The situation as it was stored for now, or computed for a time in the past."""

    def __init__(
        self, packs: RulePacks, settings: SituationSettings, area: AreaShares | None = None
    ) -> None:
        self._packs = packs
        self._settings = settings
        self._area = area

    def __call__(self, connection: Connection, at: datetime | None) -> Mapping[str, Any]:
        if at is not None:
            moment = moment_at(connection, at)
            return document(shown_at(connection, moment, self._packs, self._settings, self._area))
        body = connection.execute(
            text(
                "SELECT body FROM situation_bytes WHERE lang = 'zh' ORDER BY sequence DESC LIMIT 1"
            )
        ).scalar()
        if body is None:
            raise Unavailable("no situation has been built yet")
        found: Mapping[str, Any] = orjson.loads(bytes(body))
        return found


class Exports:
    """The folder of one installation; few exports at once, since each holds a connection."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places = threading.BoundedSemaphore(AT_ONCE)

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)

    def stop(self) -> None:
        """Nothing runs on."""

    @contextmanager
    def place(self, suffix: str) -> Iterator[Path]:
        """A path for one file. Raises Unavailable when as many exports as allowed are under way."""
        if not self._places.acquire(timeout=WAIT_S):
            raise Unavailable("other exports are under way; ask again", RETRY_AFTER_S)
        try:
            self._sweep()
            path = self._folder / f"{secrets.token_hex(8)}.{suffix}"
            try:
                yield path
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        finally:
            self._places.release()

    def _sweep(self) -> None:
        """Remove what a process that was killed has left; others come and go meanwhile."""
        for old in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - old.stat().st_mtime > KEPT_S:
                    old.unlink()


def write_wanted(
    engine: Any,
    account: Account,
    wanted: Wanted,
    packs: RulePacks,
    situation: SituationDocument,
    path: Path,
    suffix: str,
    lang: str | None,
) -> dict[str, Any]:
    """Write an export to `path`; its manifest. Raises InvalidInput for a format or size that
    cannot hold it, before anything is written."""
    check_format(suffix, wanted.crs)
    if suffix == "xlsx":
        rows = count_rows(engine, account, wanted, situation)
        if rows > ROWS_MAX:
            raise InvalidInput(
                f"{rows} rows are more than the {ROWS_MAX} a sheet of Excel holds;"
                " filter, or take csv, gpkg or parquet"
            )
    with export_of(engine, account, wanted, packs, situation) as export:
        manifest = write_export(export, path, suffix, lang)
    with engine.begin() as connection:  # before anyone is given the file
        record(
            connection,
            "export",
            account=account.username,
            subject=f"collection:{wanted.collection.name}",
            detail={
                **manifest["filters"],
                "format": suffix,
                "crs": str(manifest["crs"]),
                "at": manifest["at"],
                "reporters": wanted.reporters,
                "rows": manifest["rows"],
            },
        )
    return manifest
