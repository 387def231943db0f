"""A new `var/` folder from a backup: the base, then the log to its end or to a moment."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from data.attachments import FOLDER as ATTACHMENTS
from data.audit_chain import Head
from data.backup import ALSO, Backup, backups, file_sha256, flush_folder
from data.blobs import BlobFolder
from data.cluster import Cluster
from geo.errors import Conflict, Unavailable

RECOVERY_S = 24 * 3600
NOT_REACHED = "recovery ended before configured recovery target was reached"
#: Settings that lead to the old place; the restored database archives only when told to.
_FORGOTTEN = re.compile(r"^(archive_command|archive_timeout|recovery_|restore_command)")


@dataclass(frozen=True)
class Restored:
    """What the new folder holds. `missing`: attachments whose files the backup does not have."""

    backup: Backup
    sequence: int
    newest_at: datetime | None
    attachments: int
    missing: list[str]


def restore(
    folder: Path, var: Path, until: datetime | None = None, dbname: str = "yutu"
) -> Restored:
    """Restore into `var`, which must be empty or absent; nothing stands under its names before all
    of it does. Raises Conflict for a folder in use, Unavailable when the backup does not reach
    `until`, is damaged, or lacks what it should hold."""
    var = Path(os.path.abspath(var))  # noqa: PTH100 - keeps symbolic links
    if var.exists() and any(var.iterdir()):
        raise Conflict(f"{var} is not empty; restore into a new folder (YUTU_VAR)")
    chosen = choose(folder, until)
    check_base(chosen)
    var.mkdir(parents=True, exist_ok=True)
    draft = Cluster(
        var / "postgres.restoring", log_file=var / "restore.log", settings=_recovery(folder, until)
    )
    try:
        _lay_out(chosen, draft)
        _recover(draft, until)
        restored = _fill(chosen, draft, var, dbname, until)
        draft.stop()
    except BaseException:
        draft.stop()
        shutil.rmtree(var, ignore_errors=True)  # it was empty
        raise
    (draft.data_dir / "yutu.conf").unlink()  # written anew by the next start
    draft.data_dir.rename(var / "postgres")
    draft.data_dir.with_name(f"{draft.data_dir.name}.lock").unlink(missing_ok=True)
    flush_folder(var)
    return restored


def choose(folder: Path, until: datetime | None) -> Backup:
    """The newest base backup that was finished by then."""
    found = backups(folder)
    fitting = [one for one in found if until is None or one.finished_at <= until]
    if not fitting:
        first = f"; the first was finished at {found[0].finished_at.isoformat()}" if found else ""
        raise Unavailable(f"{folder} has no base backup from before that time{first}")
    return fitting[-1]


def check_base(backup: Backup) -> None:
    """Every byte of the base against PostgreSQL's manifest, and that against ours. Raises
    Unavailable."""
    manifest = backup.base / "backup_manifest"
    if not manifest.exists() or file_sha256(manifest) != backup.manifest["base_manifest_sha256"]:
        raise Unavailable(f"the base backup {backup.name} is damaged: its manifest is another")
    Cluster(backup.base).run(
        "pg_verifybackup", str(backup.base), failure=f"the base backup {backup.name} is damaged"
    )


def _recovery(folder: Path, until: datetime | None) -> dict[str, str]:
    wal = shlex.quote(str(folder.resolve() / "wal")).replace("%", "%%")
    settings = {"restore_command": f"cp {wal}/%f %p", "hot_standby": "on"}
    if until is not None:
        settings |= {
            "recovery_target_time": until.isoformat(),
            "recovery_target_action": "promote",
        }
    return settings


def _lay_out(backup: Backup, draft: Cluster) -> None:
    target = draft.data_dir
    copied = subprocess.run(
        ["cp", "-a", "--reflink=auto", str(backup.base), str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    if copied.returncode:
        raise Unavailable(f"the base backup cannot be copied: {copied.stderr.strip()[-300:]}")
    own = target / "postgresql.auto.conf"
    kept = [line for line in own.read_text().splitlines() if not _FORGOTTEN.match(line)]
    own.write_text("\n".join([*kept, ""]))
    (target / "recovery.signal").touch()
    for path in (own, target / "recovery.signal"):
        path.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(path, draft.os_user)


def _recover(draft: Cluster, until: datetime | None) -> None:
    """Run through the log, and open the database at the end."""
    try:
        draft.start()
    except Unavailable:
        raise _why(draft, until) from None
    deadline = time.monotonic() + RECOVERY_S
    while True:
        try:
            with psycopg.connect(draft.url("postgres").replace("+psycopg", "", 1)) as connection:
                row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
            if row and not row[0]:
                return
        except psycopg.OperationalError:
            if not draft.is_running():
                raise _why(draft, until) from None
        if time.monotonic() > deadline:
            raise Unavailable(f"recovery does not end; see {draft.log_file}")
        time.sleep(0.1)


def _why(draft: Cluster, until: datetime | None) -> Unavailable:
    said = draft.log_file.read_text(errors="replace") if draft.log_file.exists() else ""
    if NOT_REACHED in said and until is not None:
        last = re.findall(r"last completed transaction was at log time (.+)", said)
        upto = f": its last change is of {last[-1].strip()}" if last else ""
        return Unavailable(f"the log in the backup does not reach {until.isoformat()}{upto}")
    return Unavailable(f"the database did not recover: {' '.join(said.split())[-600:]}")


def _fill(
    backup: Backup, draft: Cluster, var: Path, dbname: str, until: datetime | None
) -> Restored:
    """The files that the restored rows refer to, each with its hash computed anew."""
    noted = backup.manifest.get("audit_head")  # none of before there was a trail
    head = None if noted is None else Head.parse(noted)
    with psycopg.connect(draft.url(dbname).replace("+psycopg", "", 1)) as connection:
        sequence, newest_at = connection.execute(
            "SELECT coalesce(max(sequence), 0), max(received_at) FROM change"
        ).fetchone() or (0, None)
        found = (
            head is None
            or connection.execute(
                "SELECT 1 FROM audit WHERE number = %s AND sha256 = decode(%s, 'hex')",
                [head.number, head.sha256],
            ).fetchone()
        )
        rows: list[Any] = connection.execute(
            "SELECT attachment_id, sha256, display_sha256 FROM attachment"
        ).fetchall()
    if sequence < backup.manifest["sequence"]:
        raise Unavailable(
            f"restored up to change {sequence}, but the backup began at"
            f" {backup.manifest['sequence']}: the log is incomplete"
        )
    if head is not None and not found:
        raise Unavailable(f"the audit trail of the backup does not hold its own head {head}")
    kept = BlobFolder(backup.folder / "files" / ATTACHMENTS)
    new = BlobFolder(var / ATTACHMENTS)
    missing = set()
    for attachment_id, *hashes in rows:
        for sha256 in (bytes(one) for one in hashes if one is not None):
            try:
                if not new.path(sha256).exists():
                    new.put(kept.get(sha256))
            except Unavailable:
                missing.add(str(attachment_id))
    for one in ALSO:  # what came after the base backup too
        if (backup.folder / "files" / one).is_dir():
            shutil.copytree(backup.folder / "files" / one, var / one)
    return Restored(backup, sequence, newest_at, len(rows), sorted(missing))
