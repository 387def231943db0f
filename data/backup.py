"""A backup of the private database and its files, from which any later moment can be restored.

    FOLDER/yutu-backup.json       whose backup this is
    FOLDER/base/<UTC time>/       what pg_basebackup copied, with its own manifest of SHA-256 hashes
    FOLDER/base/<UTC time>.json   our manifest: what the database was, files with their hashes
    FOLDER/wal/                   every segment of the log since, put there by PostgreSQL itself
    FOLDER/files/                 attachments by their hash; tls/; archive/

The first backup into a folder has PostgreSQL keep its log there from then on, each segment flushed
to disk before PostgreSQL may reuse its own, one at least every ARCHIVE_EVERY_S. A base backup and
the log after it lead to any moment between then and now.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psycopg
from psycopg import sql

from data.attachments import FOLDER as ATTACHMENTS
from data.audit_chain import head_of
from data.blobs import BlobFolder
from data.cluster import Cluster
from geo.errors import Conflict, Unavailable

MARKER = "yutu-backup.json"
FORMAT = 1
ARCHIVE_EVERY_S = 60
ARCHIVE_WAIT_S = 120
#: Further folders of `var/` that cannot be made again: the certificate authority that phones trust,
#: and the retired months of the log of events.
ALSO = ("tls", "archive")
LOCK_KEY = 7_205_005


@dataclass(frozen=True)
class Backup:
    """A base backup: its name is the UTC time it began."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def base(self) -> Path:
        return self.folder / "base" / self.name

    @property
    def finished_at(self) -> datetime:
        return datetime.fromisoformat(self.manifest["finished_at"])


def make_backup(cluster: Cluster, dbname: str, var: Path, folder: Path) -> Backup:
    """Back up the running cluster and the files of `var` into `folder`; durable on return.

    Raises Unavailable when it cannot be made, Conflict for a folder of something else.
    """
    folder = _outside(var, folder)
    began = datetime.now(UTC)
    name = began.strftime("%Y%m%dT%H%M%S.%fZ")
    with _administering(cluster, dbname) as connection:
        _check_archiving(connection)
        if not _one(connection, f"SELECT pg_try_advisory_lock({LOCK_KEY})"):
            raise Conflict("another backup of this database is being made")
        _prepare(connection, cluster, folder)
        for left in (folder / "base").glob(".2*"):  # by a backup that was killed
            shutil.rmtree(left)
        _keep_log_in(connection, folder / "wal")
        known = _known(connection)
        draft = folder / "base" / f".{name}"
        cluster.run(
            "pg_basebackup",
            *("-d", _libpq(cluster), "-D", str(draft), "-X", "stream", "-c", "fast"),
            "--manifest-checksums=SHA256",
            failure="the base backup was not made",
        )
        files = _copy_files(var, folder)
        finished_at = _wait_archived(connection)
    manifest = {
        "format": FORMAT,
        "name": name,
        "began_at": began.isoformat(),
        "finished_at": finished_at.isoformat(),
        **known,
        "base_manifest_sha256": file_sha256(draft / "backup_manifest"),
        "files": files,
    }
    draft.rename(folder / "base" / name)
    flush_folder(folder / "base")
    _write(folder / "base" / f"{name}.json", manifest)
    return Backup(folder, manifest)


def copy_files_only(var: Path, folder: Path, *, alone: bool = False) -> int:
    """Copy what attachments came since the last backup; how many. They are not in the log.

    `alone`: the database is saved elsewhere, and the folder is made if there is none.
    """
    folder = _outside(var, folder)
    if not var.is_dir():
        raise Unavailable(f"{var} is no folder; is YUTU_VAR right?")
    if alone and not (folder.exists() and any(folder.iterdir())):
        _make(folder, None)
    marked = _require_backup(folder)
    if alone and marked.get("system_identifier") is not None:
        raise Conflict(f"{folder} holds the backup of another database")
    (folder / "files").mkdir(mode=0o700, exist_ok=True)
    before = sum(1 for _ in (folder / "files").rglob("*"))
    _copy_files(var, folder)
    return sum(1 for _ in (folder / "files").rglob("*")) - before


def _outside(var: Path, folder: Path) -> Path:
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - keeps symbolic links
    if folder.is_relative_to(var.resolve()):
        raise Conflict(f"{folder} lies in {var}, which it is to save; choose another folder")
    return folder


def stop_archiving(cluster: Cluster, dbname: str) -> None:
    """Have PostgreSQL keep its log nowhere else any more."""
    with _administering(cluster, dbname) as connection:
        connection.execute("ALTER SYSTEM RESET archive_command")
        connection.execute("ALTER SYSTEM RESET archive_timeout")
        connection.execute("SELECT pg_reload_conf()")


def backups(folder: Path) -> list[Backup]:
    """The finished backups of a folder, oldest first. Raises Unavailable when it is none."""
    _require_backup(folder)
    found = [
        Backup(folder, orjson.loads(path.read_bytes()))
        for path in sorted((folder / "base").glob("[0-9]*.json"))
    ]
    return [one for one in found if one.base.is_dir()]


def archive_command(wal: Path) -> str:
    """The shell command by which PostgreSQL keeps a segment: flushed under another name first, and
    the same one again is fine, another of that name is not."""
    where = shlex.quote(str(wal)).replace("%", "%%")
    return (
        f"if test -e {where}/%f; then cmp -s %p {where}/%f; else "
        f"cp %p {where}/.%f.part && sync {where}/.%f.part && "
        f"mv {where}/.%f.part {where}/%f && sync {where}; fi"
    )


# -- the server ------------------------------------------------------------------------------------


@contextmanager
def _administering(cluster: Cluster, dbname: str) -> Iterator[psycopg.Connection[Any]]:
    try:
        with psycopg.connect(
            cluster.url(dbname).replace("+psycopg", "", 1), autocommit=True
        ) as connection:
            yield connection
    except psycopg.Error as error:
        raise Unavailable(f"the backup broke off: {error}") from None


def _check_archiving(connection: psycopg.Connection[Any]) -> None:
    if _one(connection, "SHOW archive_mode") == "off":
        raise Unavailable("this server was started before backups were known; stop it, start again")


def _keep_log_in(connection: psycopg.Connection[Any], wal: Path) -> None:
    """Say where, unless it is said already, and see that the server has heard it."""
    command = archive_command(wal)
    if _one(connection, "SHOW archive_command") == command:
        return
    for name, value in (("archive_command", command), ("archive_timeout", f"{ARCHIVE_EVERY_S}s")):
        connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), value))
    connection.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 10
    while _one(connection, "SHOW archive_command") != command:
        if time.monotonic() > deadline:
            raise Unavailable("PostgreSQL did not take archive_command")
        time.sleep(0.05)


def _wait_archived(connection: psycopg.Connection[Any]) -> datetime:
    """A moment up to which everything lies in the archive."""
    moment = datetime.fromisoformat(
        str(_one(connection, "SELECT to_char(clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.USOF')"))
    ).astimezone(UTC)
    connection.execute("SELECT txid_current()")  # an empty segment would not be switched
    segment = _one(connection, "SELECT pg_walfile_name(pg_switch_wal())")
    deadline = time.monotonic() + ARCHIVE_WAIT_S
    while True:
        row = connection.execute(
            "SELECT last_archived_wal >= %s, last_failed_wal FROM pg_stat_archiver"
            " WHERE last_archived_wal ~ '^[0-9A-F]{24}$'",
            [segment],
        ).fetchone()
        if row and row[0]:
            return moment
        if time.monotonic() > deadline:
            raise Unavailable(
                f"the log does not arrive in the backup's folder (segment {segment}); "
                "see the database's log, and whether the folder is writable and has space"
            )
        time.sleep(0.1)


def _known(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """What a restored database must at least know."""
    row = connection.execute(
        "SELECT (SELECT coalesce(max(sequence), 0) FROM change),"
        " (SELECT version_num FROM alembic_version), current_setting('server_version'),"
        " (SELECT count(*) FROM attachment)"
    ).fetchone()
    names = ("sequence", "schema", "postgresql", "attachments")
    known = dict(zip(names, row or (), strict=True))
    has_trail = _one(connection, "SELECT to_regclass('audit')") is not None
    head = (
        head_of(connection) if has_trail else None
    )  # an older schema, saved before it is migrated
    return known if head is None else {**known, "audit_head": str(head)}


def _one(connection: psycopg.Connection[Any], query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def _libpq(cluster: Cluster) -> str:
    return cluster.url("postgres").replace("+psycopg", "", 1)


# -- the folder ------------------------------------------------------------------------------------


def _prepare(connection: psycopg.Connection[Any], cluster: Cluster, folder: Path) -> None:
    """Make the folder, or see that it is one of this database's. PostgreSQL's user writes in it."""
    identifier = str(_one(connection, "SELECT system_identifier FROM pg_control_system()"))
    try:
        if folder.exists() and any(folder.iterdir()):
            marked = _require_backup(folder)
            if marked.get("system_identifier") != identifier:
                raise Conflict(f"{folder} holds the backup of another database")
        _make(folder, identifier)
        for one in ("base", "wal"):
            (folder / one).mkdir(exist_ok=True)
            if os.geteuid() == 0:
                shutil.chown(folder / one, cluster.os_user)
            (folder / one).chmod(0o700)
        (folder / "files").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"{folder} cannot be used: {error.strerror}") from None


def _make(folder: Path, identifier: str | None) -> None:
    """The folder with its marker; without `identifier` it is for files alone."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    if not (folder / MARKER).exists():
        _write(folder / MARKER, {"format": FORMAT, "system_identifier": identifier})


def _require_backup(folder: Path) -> dict[str, Any]:
    try:
        marked: dict[str, Any] = orjson.loads((folder / MARKER).read_bytes())
    except (OSError, ValueError):
        raise Unavailable(f"{folder} is no folder made by yutu db backup") from None
    if marked.get("format") != FORMAT:
        raise Unavailable(f"{folder} was made by another version of Yutu")
    return marked


def _copy_files(var: Path, folder: Path) -> dict[str, str]:
    """Copy what is not there yet; path below `var` → SHA-256. Raises Unavailable."""
    kept, found = BlobFolder(folder / "files" / ATTACHMENTS), {}
    for path in sorted((var / ATTACHMENTS).glob("??/*")):
        if len(path.name) != 64:
            continue  # being written
        sha256 = bytes.fromhex(path.name)
        if not kept.path(sha256).exists():
            kept.put(BlobFolder(var / ATTACHMENTS).get(sha256))
        found[f"{ATTACHMENTS}/{path.parent.name}/{path.name}"] = path.name
    for one in ALSO:
        for path in sorted((var / one).rglob("*")):
            if path.is_file():
                target = folder / "files" / path.relative_to(var)
                digest = file_sha256(path)
                if not target.exists() or file_sha256(target) != digest:
                    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    _put(target, path.read_bytes(), 0o600)
                found[str(path.relative_to(var))] = digest
    return found


def _write(path: Path, content: dict[str, Any]) -> None:
    _put(path, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n", 0o600)


def _put(path: Path, body: bytes, mode: int) -> None:
    draft = path.with_name(f".{path.name}.part")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    flush_folder(path.parent)


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
