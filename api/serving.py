"""From a configuration to a listening server: one port, one or several worker processes."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import uvicorn
from sqlalchemy.exc import OperationalError
from uvicorn.supervisors import Multiprocess

from api.deps import Configuration
from api.local_ca import Certificates, ensure_certificates, lan_addresses, machine_names
from api.metrics import FOLDER_VARIABLE
from data.database import app_engine, owner_engine
from data.postgresql import check_durability
from data.schema_version import has_newest_schema
from data.settings import WrongSetting
from data.sign_on_settings import SignOnSettings
from geo.errors import Fault, Unavailable

APPLICATION = "api.start_up:application"
GRACE_S = 5
KEEP_ALIVE_S = 15
#: A worker imports before it can answer its supervisor, for 25 s where the machine is five times
#: too busy; killed then, it would never come up.
HEALTHCHECK_S = 60
EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to that address. Raises Unavailable, with the remedy, when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(
                f"port {port} on {host} is taken by another program (ss -ltnp 'sport = :{port}' "
                f"names it); stop it, or choose another: PORT={port % 65535 + 1}"
            ) from None
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            reason = "is no address of this machine; give one, such as 127.0.0.1 or 0.0.0.0 for all"
            raise WrongSetting([Fault(f"{host!r} {reason}", None, "YUTU_HOST")]) from None
        raise Unavailable(f"cannot listen on {host} port {port}: {error.strerror}") from None
    bound.set_inheritable(True)
    return bound


def address(bound: socket.socket, tls: bool = False) -> str:
    """The URL to open on this machine."""
    host, port = bound.getsockname()[:2]
    if host in EVERY_ADDRESS:
        host = "localhost"
    host = f"[{host}]" if ":" in host else host
    return f"http{'s' if tls else ''}://{host}:{port}"


def certificates(configuration: Configuration) -> Certificates | None:
    """What TLS=1 needs, made or renewed; None without TLS."""
    server = configuration.server
    if not server.tls:
        return None
    names = machine_names(server.more_names)
    if server.host not in EVERY_ADDRESS:
        names.append(server.host)
    return ensure_certificates(configuration.paths.tls, names)


def phone_instructions(
    made: Certificates, bound: socket.socket, more_names: Sequence[str] = ()
) -> list[str]:
    """What to type on a phone, and the fingerprint to compare there."""
    host, port = bound.getsockname()[:2]
    reachable = lan_addresses() if host in EVERY_ADDRESS else [host]
    lines = [
        f"手机 phone: https://{name}:{port}/ca.crt (一次 once), https://{name}:{port}/field"
        for name in [*more_names, *(f"[{n}]" if ":" in n else n for n in reachable)]
    ]
    return [*lines, f"CA SHA-256 {made.fingerprint}", "docs/phones.zh-CN.md, docs/phones.md"]


def check_before_serving(configuration: Configuration) -> None:
    """Raises Unavailable for what would stop every worker, before any is started."""
    SignOnSettings.load()
    owner = owner_engine(configuration.database_url)
    engine = app_engine(configuration.database_url, pool_size=1)
    try:
        with owner.connect() as connection:
            current = has_newest_schema(connection)
        if not current:
            raise Unavailable("the database's schema is not the newest; run yutu db migrate")
        with engine.connect() as connection:
            check_durability(connection)
    except OperationalError:
        raise Unavailable("the database cannot be reached; is YUTU_DATABASE_URL right?") from None
    finally:
        owner.dispose()
        engine.dispose()


def serve(
    configuration: Configuration, bound: socket.socket, made: Certificates | None = None
) -> None:
    """Serve until SIGINT or SIGTERM, by TLS with certificates; a worker that dies is replaced."""
    workers = configuration.server.workers
    settings = uvicorn.Config(
        APPLICATION,
        factory=True,
        workers=workers,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_worker_healthcheck=HEALTHCHECK_S,
        forwarded_allow_ips=configuration.server.proxies,  # not what its own variable says
        ssl_certfile=None if made is None else made.server,
    )
    if workers == 1:
        uvicorn.Server(settings).run(sockets=[bound])
        return
    metrics = tempfile.mkdtemp(prefix="yutu-metrics-")
    os.environ[FOLDER_VARIABLE] = metrics
    try:
        Multiprocess(settings, sockets=[bound]).run()
    finally:
        shutil.rmtree(metrics, ignore_errors=True)


@contextmanager
def before_stopping(call: Callable[[], None]) -> Iterator[None]:
    """Have `call` made on SIGINT or SIGTERM, before the server's own handler: the server waits for
    open streams, which never end by themselves. Signals reach the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    server = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        call()
        before = server[signal.Signals(number)]
        if callable(before):
            before(number, frame)

    for number, before in server.items():
        if callable(before):
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, before in server.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, before)


def end_with_parent() -> None:
    """In a worker: stop when the process that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
