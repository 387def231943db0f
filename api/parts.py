"""The parts that run beside the requests: the builder, and this process's copy of the situation."""

from __future__ import annotations

import time

from api.deps import Services
from api.export_part import Exports
from api.ogc_catalog import OgcCatalog
from api.ogc_pool import ReaderPool
from api.sign_on import SignOn
from api.situations import Situations
from data.attachments import FOLDER
from data.audit_tally import AuditTally
from data.blobs import BlobFolder
from data.builder import Builder
from data.database import app_engine, reading
from data.divisions import version_at
from data.facility_tiles import TileCache
from data.orphans import Sweeper
from data.request_limit import RequestLimits, RequestLimitSettings
from data.service_area import ServiceAreas
from data.sign_on_settings import SignOnSettings
from geo.errors import NotFound

#: A build that has not been begun for this long, in seconds, means the builder hangs.
BEAT_OVERDUE_S = 15.0
#: The builder reads whole tables after an import; its statements may take longer than a request's.
BUILD_STATEMENT_S = 120


class BuilderPart:
    """Starts and stops the builder thread and the area shares, with an engine of their own."""

    def __init__(self, services: Services) -> None:
        configuration = services.configuration
        url = configuration.database_url
        self._engine = app_engine(url, pool_size=4, statement_timeout_s=BUILD_STATEMENT_S)
        settings = configuration.situation
        self.area = ServiceAreas.under(self._engine, settings, configuration.paths.var)
        self.builder = Builder(self._engine, url, services.packs, settings, self.area)

    def start(self) -> None:
        self.area.start()
        self.builder.start()

    def stop(self) -> None:
        self.builder.stop()
        self.builder.join(timeout=5)
        self.area.stop()
        self._engine.dispose()

    def overdue(self) -> str | None:
        """Why this process is not ready, if its builder thread hangs."""
        if time.monotonic() - self.builder.beat_at < BEAT_OVERDUE_S:
            return None
        return "the situation is not being built"


def add_situation(services: Services) -> None:
    """Give a process its builder and its copy of the newest situation."""
    builder = BuilderPart(services)
    situations = Situations(services.engine, services.configuration.database_url)
    services.add(builder)
    services.add(situations)
    services.ending += [builder.builder.stop, situations.end_streams]
    services.readiness.append(builder.overdue)
    services.readiness.append(lambda: unbuilt(services, situations))


def add_limits(services: Services) -> None:
    """Have requests of each account counted, and what was refused told to the audit trail."""
    services.add(RequestLimits(services.engine, RequestLimitSettings.load()))
    services.add(AuditTally(services.engine))


def add_sign_on(services: Services) -> None:
    """Give a process the identity provider, if one is set."""
    services.add(SignOn(SignOnSettings.load()))


def unbuilt(services: Services, situations: Situations) -> str | None:
    """Why there is no situation to show, None when there is one."""
    if situations.latest("zh"):
        return None
    try:
        with reading(services.health_engine) as connection:
            version_at(connection)
    except NotFound:
        return (
            "no districts are loaded, so nothing can be assessed;"
            " `yutu import districts --default` loads those shipped"
        )
    return "no situation has been built yet; ask again in some seconds"


def add_sweeper(services: Services) -> None:
    """Have files of attachments without a row removed."""
    blobs = BlobFolder(services.configuration.paths.var / FOLDER)
    services.add(Sweeper(services.engine, blobs))


def add_readers(services: Services) -> None:
    """Give a process the OGC API's connections and collections, tiles, and a place for exports."""
    configuration = services.configuration
    database = configuration.database
    pool = ReaderPool(
        configuration.database_url,
        size=max(2, database.pool_size // 2),
        statement_timeout_ms=database.statement_timeout_ms,
        acquire_timeout_s=database.acquire_timeout_s,
    )
    services.add(pool)
    services.add(OgcCatalog(pool))
    services.add(TileCache())
    services.add(Exports(configuration.paths.var / "exports"))
