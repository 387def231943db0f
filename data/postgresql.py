"""The PostgreSQL this machine has, how we tune it, and whether it keeps what it says it kept."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Connection, text

from geo.errors import Unavailable

INSTALLED = Path("/usr/lib/postgresql")
EXTENSIONS = Path("/usr/share/postgresql")
OLDEST_MAJOR = 15
DURABLE = ("fsync", "full_page_writes", "synchronous_commit")
MIB = 2**20


def programs(
    version: str | None = None, installed: Path = INSTALLED, extensions: Path = EXTENSIONS
) -> Path:
    """The folder of the server's programs: those of `version`, else the newest with PostGIS.

    Raises Unavailable naming the packages to install.
    """
    if version is not None:
        found = [version] if (installed / version / "bin" / "postgres").exists() else []
        wanted = version
    else:
        majors = [
            int(folder.name)
            for folder in (installed.iterdir() if installed.is_dir() else ())
            if folder.name.isdigit()
            and int(folder.name) >= OLDEST_MAJOR
            and (folder / "bin" / "postgres").exists()
            and (extensions / folder.name / "extension" / "postgis.control").exists()
        ]
        found = [str(max(majors))] if majors else []
        wanted = str(OLDEST_MAJOR)
    if not found:
        raise Unavailable(
            f"PostgreSQL {wanted} with PostGIS is not installed; run make setup, or "
            f"apt-get install postgresql-{wanted} postgresql-{wanted}-postgis-3"
        )
    return installed / found[0] / "bin"


def tuned(memory_bytes: int) -> dict[str, str]:
    """Our settings for a machine with `memory_bytes`. Nothing here weakens durability.

    The log never repeats a statement or a row: they may hold telephone numbers.
    """
    shared_mib = max(128, min(1024, memory_bytes // MIB // 8))
    return {
        "max_connections": "60",
        "shared_buffers": f"{shared_mib}MB",
        "effective_cache_size": f"{max(256, memory_bytes // MIB // 2)}MB",
        "work_mem": "16MB",
        "maintenance_work_mem": f"{max(64, min(512, shared_mib // 2))}MB",
        "wal_compression": "lz4",
        "min_wal_size": "256MB",
        "max_wal_size": "2GB",
        "checkpoint_timeout": "10min",
        # nothing is kept until `yutu db backup` says where; to switch it on needs a new start
        "archive_mode": "on",
        "archive_command": "/bin/true",
        "random_page_cost": "1.1",
        "jit": "off",
        "default_toast_compression": "lz4",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "datestyle": "iso, ymd",
        "idle_in_transaction_session_timeout": "60s",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "log_statement": "none",
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_checkpoints": "off",
    }


def memory_bytes() -> int:
    """What this process may use: the machine's memory, or the container's when that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            return min(machine, int((Path("/sys/fs/cgroup") / limit).read_text()))
        except (OSError, ValueError):
            continue
    return machine


def check_durability(connection: Connection) -> None:
    """Raises Unavailable when a crash could lose what was acknowledged; names every setting.

    Ask it through a connection like those that write: `synchronous_commit` may also be switched
    off for one role or database, and both are looked for. `YUTU_ALLOW_UNSAFE=1` is honoured only
    under pytest, for its negative controls.
    """
    faults = [
        f"{name} is off in this session"
        for name in DURABLE
        if connection.execute(text("SELECT current_setting(:name)"), {"name": name}).scalar_one()
        == "off"
    ]
    kept = connection.execute(
        text(
            "SELECT coalesce(r.rolname, 'every role') || ' in '"
            " || coalesce(d.datname, 'every database') FROM pg_db_role_setting s"
            " LEFT JOIN pg_roles r ON r.oid = s.setrole"
            " LEFT JOIN pg_database d ON d.oid = s.setdatabase"
            " CROSS JOIN LATERAL unnest(s.setconfig) AS c(setting)"
            " WHERE c.setting IN ('synchronous_commit=off', 'synchronous_commit=false',"
            " 'synchronous_commit=0', 'synchronous_commit=no')"
            " AND (s.setdatabase = 0 OR d.datname = current_database()) ORDER BY 1"
        )
    ).scalars()
    faults += [f"synchronous_commit is off for {scope}" for scope in kept]
    allowed = os.environ.get("YUTU_ALLOW_UNSAFE") == "1" and "PYTEST_CURRENT_TEST" in os.environ
    if faults and not allowed:
        raise Unavailable(
            f"refusing to serve, a crash could lose acknowledged reports: {'; '.join(faults)}. "
            "Switch it on (ALTER SYSTEM RESET <name>; ALTER ROLE <role> RESET synchronous_commit; "
            "SELECT pg_reload_conf()) and start again",
            retry_after_s=60,
        )
