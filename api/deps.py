"""What handlers are given: the services of this process, the caller, the language, the body.

What a handler asks for here is found on the event loop: FastAPI gives each dependency that is a
plain function to a thread of its pool, six times for one request, and under a flood each of these
waits for the interpreter among all the others.

`Services` is made once per process in the lifespan. A part with a life of its own (a thread, a
connection) is a `Background`: `services.add(part)` before start, `services.get(Part)` in handlers.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Protocol, TypeVar, cast

from fastapi import Depends, Query, Request
from sqlalchemy import Engine

from api.account_book import AccountBook
from api.language import Lang, language_of, parse_at
from api.security import Signer
from data.accounts import Account
from data.cluster import Cluster
from data.rulepacks import RulePacks
from data.settings import (
    AdmissionSettings,
    DatabaseSettings,
    DemoSettings,
    PathsSettings,
    SecuritySettings,
    ServerSettings,
    Settings,
    SituationSettings,
    WrongSetting,
)
from geo.errors import Fault


class Background(Protocol):
    """A part that runs beside the requests. `stop` returns within seconds."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


Part = TypeVar("Part")
Still = Callable[[], Awaitable[bool]]


def check_settings() -> None:
    """Raises WrongSetting naming every variable of the environment that cannot be used, also of
    what is read only when it is needed."""
    faults: list[Fault] = []
    for kind in Settings.__subclasses__():
        try:
            kind.load()
        except WrongSetting as error:
            faults += error.faults
    if faults:
        raise WrongSetting(faults)


@dataclass(frozen=True)
class Configuration:
    """Every setting of one process, and the database and secret they lead to."""

    paths: PathsSettings
    database: DatabaseSettings
    server: ServerSettings
    security: SecuritySettings
    demo: DemoSettings
    situation: SituationSettings
    admission: AdmissionSettings
    database_url: str
    secret: str = field(repr=False)

    @classmethod
    def load(cls, database_url: str | None = None) -> Configuration:
        """From the environment. Raises WrongSetting naming every variable that is wrong."""
        check_settings()
        paths, database = PathsSettings.load(), DatabaseSettings.load()
        server, security = ServerSettings.load(), SecuritySettings.load()
        demo, situation = DemoSettings.load(), SituationSettings.load()
        admission = AdmissionSettings.load()
        return cls(
            paths,
            database,
            server,
            security,
            demo,
            situation,
            admission,
            database_url or database.sqlalchemy_url or Cluster.of(paths).url(),
            security.signing_secret(paths),
        )


@dataclass
class Services:
    """What the handlers of one process share."""

    configuration: Configuration
    engine: Engine
    health_engine: Engine
    accounts: AccountBook
    signer: Signer
    packs: RulePacks
    #: Each says why this process is not ready, or None.
    readiness: list[Callable[[], str | None]] = field(default_factory=list)
    #: Called in the signal handler once this process is told to stop, before it waits for requests.
    ending: list[Callable[[], None]] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    _parts: list[Background] = field(default_factory=list)

    def add(self, part: Background) -> None:
        """Have `part` started and stopped with this process, in the order of adding."""
        self._parts.append(part)

    def get(self, kind: type[Part]) -> Part:
        """The part of that class. Raises LookupError when none was added."""
        for part in self._parts:
            if isinstance(part, kind):
                return part
        raise LookupError(f"no {kind.__name__} was added to the services")

    def start(self) -> None:
        for part in self._parts:
            part.start()

    def end(self) -> None:
        """End what would otherwise keep the process waiting; safe in a signal handler."""
        for call in self.ending:
            call()

    def stop(self) -> None:
        self.stopping.set()
        for part in reversed(self._parts):
            part.stop()


def services_of(request: Request) -> Services:
    return cast(Services, request.app.state.services)


async def _services_of(request: Request) -> Services:
    return services_of(request)


async def account_of(request: Request) -> Account:
    """The caller. The policy has let it in; on an open route there is none, and this raises."""
    account = request.scope["state"].get("account")
    if account is None:
        raise RuntimeError("an open route asks who is calling")
    return cast(Account, account)


async def still_of(request: Request) -> Still:
    """Asks whether the caller's credentials would still let in whom they let in."""
    return cast(Still, request.scope["state"]["still"])


async def csrf_of(request: Request) -> str:
    """The CSRF token of the caller's session; empty without a session cookie."""
    return str(request.scope["state"].get("csrf") or "")


async def lang_of(request: Request, lang: Annotated[Lang | None, Query()] = None) -> Lang:
    return lang or language_of(request.scope)


async def at_of(
    at: Annotated[
        str | None,
        Query(
            description="Time of knowledge: only what had been received by then.",
            examples=["2026-11-21T08:00:00+08:00"],
        ),
    ] = None,
) -> datetime | None:
    return parse_at(at)


async def body_of(request: Request) -> bytes:
    return await request.body()


async def content_type_of(request: Request) -> str:
    """The body's media type in lower case, without parameters; empty when not said."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


ServicesDep = Annotated[Services, Depends(_services_of)]
Caller = Annotated[Account, Depends(account_of)]
StillDep = Annotated[Still, Depends(still_of)]
Csrf = Annotated[str, Depends(csrf_of)]
LangDep = Annotated[Lang, Depends(lang_of)]
At = Annotated[datetime | None, Depends(at_of)]
Body = Annotated[bytes, Depends(body_of)]
ContentType = Annotated[str, Depends(content_type_of)]
