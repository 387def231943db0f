"""`yutu db backup` and `yutu db restore`: of the private database and the files beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from api.commands.private_database import NAME, database
from api.language import parse_at
from data.audit import record
from data.backup import copy_files_only, make_backup, stop_archiving
from data.backup_keep import keep_newest
from data.backup_note import PARTS, note_backup
from data.cluster import Cluster
from data.database import owner_engine
from data.restore import restore
from data.schema_version import has_newest_schema
from data.settings import DatabaseSettings, PathsSettings
from geo.errors import InvalidInput, Unavailable

MISSING_SHOWN = 20


def backup_command(
    folder: Annotated[Path, typer.Argument(help="Made, or continued, by this command.")],
    files: Annotated[
        bool, typer.Option("--files", help="Only the attachments that came since.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Only keep the log nowhere any more.")
    ] = False,
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="Afterwards delete older base backups, and their log."),
    ] = None,
) -> None:
    """Copy the private database and its files, and keep its log in FOLDER from now on.

    Any later moment can then be restored. Safe beside a running server; repeat it daily.
    """
    if keep is not None and (files or stop):
        raise InvalidInput("--keep goes with a whole backup, neither with --files nor with --stop")
    paths = PathsSettings.load()
    if files:
        began = datetime.now(UTC)
        alone = DatabaseSettings.load().url is not None
        copied = copy_files_only(paths.var, folder, alone=alone)
        note_backup(paths.var, ["files"], began)
        typer.echo(f"copied {copied} new files")
        return
    _private()
    with database() as url:
        cluster = Cluster.of(paths)
        if stop:
            stop_archiving(cluster, NAME)
            _note(url, "database.backup_stopped")
            typer.echo("the log is kept nowhere any more")
            return
        made = make_backup(cluster, NAME, paths.var, folder)
        manifest = made.manifest
        told = {"sequence": manifest["sequence"], "base_sha256": manifest["base_manifest_sha256"]}
        _note(url, "database.backup", subject=f"backup:{made.name}", **told)
        note_backup(paths.var, PARTS, made.finished_at)
    typer.echo(
        f"backup {made.name}: change {manifest['sequence']} and {len(manifest['files'])} files,"
        f" the audit trail up to {manifest.get('audit_head', 'none')};"
        f" the log is kept in {made.folder / 'wal'}"
    )
    if keep is not None:
        gone = keep_newest(made.folder, keep)
        typer.echo(f"deleted {len(gone.bases)} older backups and {gone.segments} files of the log")


def restore_command(
    folder: Annotated[Path, typer.Argument(help="Made by yutu db backup.")],
    until: Annotated[
        str | None,
        typer.Option(help="A time with offset, 2026-11-21T08:00:00+08:00; else everything."),
    ] = None,
) -> None:
    """Restore a backup into YUTU_VAR, which must be empty, as it was at a moment or at its end."""
    _private()
    paths = PathsSettings.load()
    done = restore(folder, paths.var, parse_at(until), NAME)
    with database() as url:  # the one that was restored
        told = {"sequence": done.sequence, "until": until}
        _note(url, "database.restored", subject=f"backup:{done.backup.name}", **told)
    newest = "none" if done.newest_at is None else done.newest_at.isoformat()
    typer.echo(
        f"restored into {paths.var}: change {done.sequence} of {newest},"
        f" {done.attachments} attachments"
    )
    if done.missing:
        shown = ", ".join(done.missing[:MISSING_SHOWN])
        raise Unavailable(
            f"{len(done.missing)} attachments came after the last backup and have no file: {shown}"
        )


def _note(url: str, act: str, *, subject: str | None = None, **detail: object) -> None:
    """Append to the audit trail of that database, if its schema has one."""
    engine = owner_engine(url)
    try:
        with engine.begin() as connection:
            if has_newest_schema(connection):
                record(connection, act, subject=subject, detail=detail)
    finally:
        engine.dispose()


def _private() -> None:
    if DatabaseSettings.load().url is not None:
        raise Unavailable(
            "YUTU_DATABASE_URL names a server of your own, where this program may neither set how"
            " the log is kept nor put files: back it up with its own tools, as docs/operations.md"
            " shows (pg_basebackup, pg_receivewal); yutu db backup --files saves the photos"
        )
