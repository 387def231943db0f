"""The private PostgreSQL cluster with PostGIS, kept under `var/` and reached only by a socket.

It listens on no TCP port. Its Unix socket lies in a short folder of mode 0700 (a socket's path may
have 107 bytes) that belongs to the system user PostgreSQL runs as; whoever may enter that folder
is let in without a password ("trust"), and nobody else can. As root the programs run as that
user (`postgres`, or whoever owns the data already), since PostgreSQL refuses root.

One process at a time owns a cluster, by a lock the kernel drops when that process dies however it
dies. The owner starts the server, or adopts the one a killed owner left behind, and stops it. Any
other process is a guest: it uses the running server and never stops it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg
import structlog
from psycopg import sql
from sqlalchemy.engine import URL

from data import postmaster
from data.patience import connected
from data.postgresql import memory_bytes, programs, tuned
from data.settings import PathsSettings
from geo.errors import Unavailable

SOCKET_PORT = 5432  # only a part of the socket's file name; no TCP port is opened
SOCKET_BYTES_MAX = 107
START_S = 600  # crash recovery of a full WAL may take minutes
LOG_BYTES_MAX = 20 * 2**20
#: Whoever may enter the socket's folder; the second line is for base backups.
LET_IN = "local all all trust\nlocal replication all trust\n"

log = structlog.get_logger(__name__)


class Cluster:
    """A PostgreSQL data folder and the server that runs on it.

    `data_dir` is made by the first start. `runtime_dir` holds the socket; by default one of `/run`
    (root), `$XDG_RUNTIME_DIR` or `/tmp`, named after a hash of `data_dir`. `settings` replace
    ours (tests switch fsync off). Every method raises Unavailable, with the remedy in its text.
    """

    def __init__(
        self,
        data_dir: Path,
        runtime_dir: Path | None = None,
        log_file: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = Path(os.path.abspath(data_dir))  # noqa: PTH100 - keeps symbolic links
        self.runtime_dir = runtime_dir or _runtime_dir(self.data_dir)
        self.log_file = log_file or self.data_dir.with_name(f"{self.data_dir.name}.log")
        self._settings = dict(settings or {})
        self._owner: int | None = None  # descriptor of the lock while we own the cluster
        self._turn = threading.RLock()  # a watching thread and a stopping one take turns

    @classmethod
    def of(cls, paths: PathsSettings) -> Cluster:
        """The cluster of this installation: `var/postgres`, its log in `var/log`."""
        return cls(paths.cluster, paths.runtime, paths.cluster_log)

    # -- what others ask -----------------------------------------------------------------------

    def url(self, dbname: str = "yutu", user: str = "postgres") -> str:
        """`postgresql+psycopg://user@/dbname?host=<socket folder>`."""
        url = URL.create(
            "postgresql+psycopg",
            username=user,
            database=dbname,
            query={"host": str(self._socket_dir()), "port": str(SOCKET_PORT)},
        )
        return url.render_as_string(hide_password=False)

    def is_running(self) -> bool:
        """Whether a server of this data folder is alive (it may still be recovering)."""
        return postmaster.pid(self.data_dir) is not None

    def is_ready(self) -> bool:
        """Whether it accepts connections now."""
        try:
            self._connect("postgres").close()
        except psycopg.Error:
            return False
        return True

    @property
    def owned(self) -> bool:
        """Whether this process is the one that stops the server."""
        return self._owner is not None

    def run(self, program: str, *arguments: str, failure: str) -> None:
        """Run one of PostgreSQL's programs as the user the server runs as. Raises Unavailable."""
        self._run([str(self._program(program)), *arguments], failure)

    # -- starting ------------------------------------------------------------------------------

    def start(self) -> None:
        """Make it run and accept connections; nothing to do when it already does.

        Recovers by itself from killed servers and owners, stale pid files, a reused pid and a
        half-made data folder. Beside a live owner this process becomes a guest.
        """
        with self._turn:
            deadline = time.monotonic() + START_S
            self._prepare_parent()
            while not self._own():
                if self.is_running() and self.is_ready():
                    return
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"another process holds {self._lock_file} but its database does not "
                        "answer; stop that process and start again"
                    )
                time.sleep(0.1)
            try:
                self._start_as_owner()
            except OSError as error:  # a full or read-only disk, a folder that went away
                self._disown()
                raise Unavailable(
                    f"the database cannot start: {error.strerror} ({error.filename})"
                ) from error
            except BaseException:
                self._disown()
                raise

    def initialise(self) -> None:
        """Make the data folder unless there is one. A half-made one never gets its name."""
        if (self.data_dir / "PG_VERSION").exists():
            return
        if self.data_dir.exists() and any(self.data_dir.iterdir()):
            raise Unavailable(
                f"{self.data_dir} is not empty and no PostgreSQL data folder; "
                "move it away, or set YUTU_VAR to another folder"
            )
        self._prepare_parent()
        self._check_reachable()
        draft = self.data_dir.with_name(f"{self.data_dir.name}.initdb")
        if draft.exists():
            shutil.rmtree(draft)  # what a start that was killed left behind
        draft.mkdir(mode=0o700)
        _give(draft, self.os_user)
        command = [str(self._program("initdb")), f"--pgdata={draft}", "--username=postgres"]
        command += ["--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"]
        command += ["--auth-local=trust", "--auth-host=reject"]
        self._run(command, "initdb failed")
        (draft / "pg_hba.conf").write_text(LET_IN, encoding="utf-8")
        with (draft / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write("\ninclude_if_exists 'yutu.conf'\n")
            file.flush()
            os.fsync(file.fileno())
        if self.data_dir.exists():
            self.data_dir.rmdir()
        draft.rename(self.data_dir)
        _sync_folder(self.data_dir.parent)

    def create_database(self, dbname: str) -> bool:
        """Make an empty UTF-8 database; False if it is there. PostGIS comes by its migrations."""
        with self._connect("postgres") as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [dbname])
            if known.fetchone():
                return False
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(dbname))
            )
            return True

    def watch(self, stopping: threading.Event, interval_s: float = 0.5) -> None:
        """Until `stopping`, start the server again whenever it dies. For a thread of its own."""
        pause_s = interval_s
        while not stopping.wait(pause_s):
            if self.is_running():
                pause_s = interval_s
                continue
            log.warning("database died, starting it again", data_dir=str(self.data_dir))
            try:
                self.start()
            except Unavailable as error:
                pause_s = min(2 * pause_s, 5.0)
                log.error("database did not start", reason=str(error))

    def stop(self) -> None:
        """Stop the server in order, if this process owns it; a guest leaves it alone."""
        with self._turn:
            if not self.owned:
                return
            try:
                if self.is_running():
                    command = [str(self._program("pg_ctl")), "stop", "-D", str(self.data_dir)]
                    command += ["-w", "-t", "60", "-m"]
                    if self._try([*command, "fast"]).returncode:
                        self._run([*command, "immediate"], "PostgreSQL did not stop")
                if self.runtime_dir.exists() and not any(self.runtime_dir.iterdir()):
                    self.runtime_dir.rmdir()
            finally:
                self._disown()

    # -- owning --------------------------------------------------------------------------------

    @property
    def _lock_file(self) -> Path:
        return self.data_dir.with_name(f"{self.data_dir.name}.lock")

    def _own(self) -> bool:
        if self._owner is not None:
            return True
        try:
            descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _not_ours(self._lock_file, error.strerror) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._owner = descriptor
        return True

    def _disown(self) -> None:
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    def _start_as_owner(self) -> None:
        self.initialise()
        self._check_reachable()
        if self.is_running():
            if self._wait_ready(30):
                return  # adopted from an owner that was killed
            self._try(
                [str(self._program("pg_ctl")), "stop", "-D", str(self.data_dir), "-m", "fast"]
            )
        postmaster.clear_stale_pid_file(self.data_dir)
        postmaster.end_orphans(self.data_dir)
        self._prepare_runtime_dir()
        postmaster.clear_stale_socket(self.data_dir, self._socket)
        self._write_settings()
        self._prepare_log()
        command = [str(self._program("pg_ctl")), "start", "-D", str(self.data_dir), "-w", "-s"]
        command += ["-t", str(START_S), "-l", str(self.log_file)]
        # A session of its own: Ctrl-C in the terminal reaches us, and we stop the server.
        self._run(command, f"PostgreSQL did not start; see {self.log_file}")
        if not self._wait_ready(30):
            raise Unavailable(f"PostgreSQL started but does not answer; see {self.log_file}")

    def _wait_ready(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            if time.monotonic() > deadline or not self.is_running():
                return False
            time.sleep(0.05)
        return True

    # -- folders and users ---------------------------------------------------------------------

    @property
    def os_user(self) -> str:
        """The system user PostgreSQL runs as: us, or, when we are root, whoever owns the data."""
        if os.geteuid() != 0:
            return pwd.getpwuid(os.geteuid()).pw_name
        if self.data_dir.exists() and self.data_dir.stat().st_uid != 0:
            return pwd.getpwuid(self.data_dir.stat().st_uid).pw_name
        return "postgres"

    def _prepare_parent(self) -> None:
        try:
            _make_passable(self.data_dir.parent)
            exists = self.data_dir.exists()
        except OSError as error:
            raise _not_ours(self.data_dir.parent, error.strerror) from None
        if exists and os.geteuid() not in {0, self.data_dir.stat().st_uid}:
            raise _not_ours(self.data_dir, "it belongs to another user")

    def _check_reachable(self) -> None:
        if os.geteuid() != 0:
            return
        _uid(self.os_user)
        folders = [str(folder) for folder in reversed(self.data_dir.parents)]
        script = 'for folder; do test -x "$folder" || { echo "$folder"; exit 1; }; done'
        walk = self._try(["sh", "-c", script, "sh", *folders])
        if walk.returncode:
            blocker = walk.stdout.strip() or str(self.data_dir.parent)
            raise Unavailable(
                f"PostgreSQL runs as the system user {self.os_user}, who may not enter {blocker}. "
                f"Keep the data elsewhere (YUTU_VAR=/var/lib/yutu), or let it pass "
                f"(chmod o+x {blocker}), or run as an ordinary user instead of root"
            )

    def _socket_dir(self) -> Path:
        """Where the running server says its socket is, else where we would put it."""
        return postmaster.socket_dir(self.data_dir) or self.runtime_dir

    @property
    def _socket(self) -> Path:
        return self.runtime_dir / f".s.PGSQL.{SOCKET_PORT}"

    def _prepare_runtime_dir(self) -> None:
        folder, owner = self.runtime_dir, _uid(self.os_user)
        if len(os.fsencode(self._socket)) > SOCKET_BYTES_MAX:
            raise Unavailable(
                f"the socket's path {self._socket} is longer than {SOCKET_BYTES_MAX} bytes; "
                "set YUTU_RUNTIME to a shorter folder"
            )
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            found = folder.lstat()
            if (
                folder.is_symlink()
                or not folder.is_dir()
                or found.st_uid not in {owner, os.geteuid()}
            ):
                raise Unavailable(
                    f"{folder} is not a folder of {self.os_user}, so it is not trusted with the "
                    "database's socket; remove it, or set YUTU_RUNTIME to another short folder"
                ) from None
        except OSError as error:
            raise Unavailable(
                f"{folder} cannot be made ({error.strerror}); "
                "set YUTU_RUNTIME to a short folder that can"
            ) from None
        folder.chmod(0o700)
        _give(folder, self.os_user)

    def _prepare_log(self) -> None:
        _make_passable(self.log_file.parent)
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_BYTES_MAX:
            self.log_file.rename(self.log_file.with_name(f"{self.log_file.name}.1"))
        self.log_file.touch(mode=0o600)
        _give(self.log_file, self.os_user)

    def _write_settings(self) -> None:
        settings = tuned(memory_bytes())
        settings |= {"listen_addresses": "", "port": str(SOCKET_PORT)}
        settings |= {"unix_socket_directories": str(self.runtime_dir)} | self._settings
        quoted = {name: value.replace("'", "''") for name, value in settings.items()}
        lines = [f"{name} = '{value}'" for name, value in quoted.items()]
        head = "# Written by Yutu at every start; your own settings go into postgresql.conf"
        hba = self.data_dir / "pg_hba.conf"
        if hba.read_text(encoding="utf-8") == LET_IN.splitlines(keepends=True)[0]:
            hba.write_text(LET_IN, encoding="utf-8")  # made before there were backups
        path = self.data_dir / "yutu.conf"
        path.write_text("\n".join([head, *lines, ""]), encoding="utf-8")
        path.chmod(0o600)
        _give(path, self.os_user)

    # -- programs ------------------------------------------------------------------------------

    def _program(self, name: str) -> Path:
        try:
            version = (self.data_dir / "PG_VERSION").read_text(encoding="ascii").strip()
        except OSError:
            version = None
        return programs(version) / name

    def _try(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        if os.geteuid() == 0:
            command = ["runuser", "-u", self.os_user, "--", *command]
        keep = {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ}
        return subprocess.run(
            command,
            cwd="/",  # the user PostgreSQL runs as may not enter ours
            env=keep | {"LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            start_new_session=True,
            check=False,
        )

    def _run(self, command: Sequence[str], failure: str) -> None:
        done = self._try(command)
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())[-600:]
            raise Unavailable(f"{failure}: {said}")

    def _connect(self, dbname: str) -> psycopg.Connection[tuple[object, ...]]:
        return connected(
            psycopg.Connection,
            host=str(self._socket_dir()),
            port=SOCKET_PORT,
            dbname=dbname,
            user="postgres",
            autocommit=True,
            connect_timeout=5,
        )


def _runtime_dir(data_dir: Path) -> Path:
    name = f"yutu-{hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:8]}"
    if os.geteuid() == 0:
        return Path("/run") / name
    own = os.environ.get("XDG_RUNTIME_DIR")
    return (Path(own) if own and os.access(own, os.W_OK) else Path("/tmp")) / name  # noqa: S108


def _uid(user: str) -> int:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise Unavailable(
            f"there is no system user {user} to run PostgreSQL as; run make setup"
        ) from None


def _give(path: Path, user: str) -> None:
    if os.geteuid() == 0:
        shutil.chown(path, user)


def _make_passable(folder: Path) -> None:
    """Make `folder`, so that PostgreSQL's user may pass through whatever our umask is."""
    for missing in [one for one in (*reversed(folder.parents), folder) if not one.exists()]:
        missing.mkdir(exist_ok=True)
        missing.chmod(0o755)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_ours(path: Path, reason: str | None) -> Unavailable:
    me = pwd.getpwuid(os.geteuid()).pw_name
    return Unavailable(
        f"{path} cannot be used by {me} ({reason}); start as the user that made it, "
        "or set YUTU_VAR to a folder of your own"
    )
