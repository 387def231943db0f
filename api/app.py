"""The application: services made in the lifespan, the gate before every route."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.telemetry import TelemetryConfig
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from starlette.concurrency import run_in_threadpool

from api import logs, problems
from api.account_book import AccountBook
from api.admission import Admission
from api.credentials import Gate
from api.deps import Configuration, Services
from api.gauges import add_vitals, watch_pool
from api.parts import add_limits, add_readers, add_sign_on, add_situation, add_sweeper
from api.policy import POLICY, PolicyTable, Rule
from api.pulse import Patience, add_pulse
from api.request_log import RequestLog
from api.routes import ROUTERS
from api.routing import served_routes
from api.security import Signer
from api.serving import before_stopping, end_with_parent
from data.database import app_engine
from data.postgresql import check_durability
from data.rulepacks import load_packs
from data.scratch import sweep_scratch
from data.waits import ALLOWANCE_S

DATABASE_WAIT_S = 60.0
#: Objects made before Python looks for unreachable ones. Its default of 700, over a heap of what
#: was imported, took a tenth of the processor while events arrived.
GC_AFTER_OBJECTS = 20_000

#: FastAPI can export what it handles, on a word from the environment. Nothing leaves this server.
NO_TELEMETRY = TelemetryConfig(
    tracing=False, metrics=False, logs=False, operation_spans=False, auto_configure=False
)

#: Called with the services of a process before they start; each adds its parts.
EXTENSIONS: list[Callable[[Services], None]] = [
    add_pulse,
    add_limits,
    add_vitals,
    add_situation,
    add_readers,
    add_sign_on,
    add_sweeper,
]


def create_app(
    configuration: Configuration,
    *,
    routers: Iterable[APIRouter] = ROUTERS,
    policy: Iterable[Rule] = POLICY,
    extensions: Iterable[Callable[[Services], None]] = (),
) -> FastAPI:
    """The API of one process. Raises RuntimeError unless policy rows and routes match exactly."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services = await run_in_threadpool(make_services, configuration)
        try:
            for extend in (*EXTENSIONS, *extensions):
                extend(services)
            await run_in_threadpool(services.start)
            app.state.services = services
            with before_stopping(services.end):
                yield
        finally:
            await run_in_threadpool(services.stop)
            services.engine.dispose()
            services.health_engine.dispose()

    table = PolicyTable(policy)
    app = FastAPI(
        title="Yutu",
        version=version("yutu"),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
        lifespan=lifespan,
    )
    for router in routers:
        app.include_router(router)
    table.check(served_routes(app.routes))
    app.state.policy = table
    problems.install(app)
    app.add_middleware(
        Admission, settings=configuration.admission, disk_folders=data_folders(configuration)
    )
    app.add_middleware(Gate, policy=table)
    app.add_middleware(Patience)
    app.add_middleware(RequestLog)
    return app


def data_folders(configuration: Configuration) -> tuple[Path, ...]:
    """Where what is acknowledged is written, as far as it is on this machine's disks."""
    paths = configuration.paths
    return (paths.var, paths.cluster)


def make_services(configuration: Configuration) -> Services:
    """Connect, refuse a database that could lose what it acknowledged, read the rule packs.

    What processes that were killed left of files in passing is removed.
    """
    sweep_scratch()
    database = configuration.database
    engine = app_engine(
        configuration.database_url,
        pool_size=database.pool_size,
        pool_overflow=database.pool_overflow,
        acquire_timeout_s=database.acquire_timeout_s,
        connect_timeout_s=database.connect_timeout_s,
        statement_timeout_s=max(1, database.statement_timeout_ms // 1000),
        lock_timeout_s=database.lock_timeout_ms / 1000,
        usual_lock_timeout_s=ALLOWANCE_S,
    )
    health_engine = app_engine(
        configuration.database_url,
        pool_size=database.health_pool_size + 1,  # one is the account book's
        acquire_timeout_s=1.0,
        statement_timeout_s=2,
    )
    watch_pool(engine, "requests", database.pool_size + database.pool_overflow)
    watch_pool(health_engine, "health", database.health_pool_size + 1)
    _check_patiently(engine)
    accounts = AccountBook(health_engine)
    services = Services(
        configuration=configuration,
        engine=engine,
        health_engine=health_engine,
        accounts=accounts,
        signer=Signer(configuration.secret),
        packs=load_packs(),
    )
    services.add(accounts)
    return services


def _check_patiently(engine: Engine) -> None:
    """A worker replaced while the database recovers waits for it: were it to fail, the others
    would be stopped with it."""
    deadline = time.monotonic() + DATABASE_WAIT_S
    while True:
        try:
            with engine.connect() as connection:
                check_durability(connection)
                return
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def from_environment() -> FastAPI:
    """The application of one worker process, as uvicorn's factory."""
    logs.configure()
    end_with_parent()
    app = create_app(Configuration.load())
    gc.collect()
    gc.freeze()  # what was imported stays
    gc.set_threshold(GC_AFTER_OBJECTS, 10, 10)
    return app
