"""`yutu run` and `yutu serve`."""

from __future__ import annotations

import socket
from collections.abc import Callable

import typer

from api import logs
from api.commands.preparations import demonstrate, load_divisions
from api.commands.private_database import database, stoppable
from api.deps import Configuration, check_settings
from api.serving import (
    address,
    certificates,
    check_before_serving,
    listen,
    phone_instructions,
    serve,
)
from data.accounts import first_run
from data.database import migrate, owner_engine
from data.settings import ServerSettings

#: What `yutu run` does between the schema and serving, in order, each time; each prints one line
#: of what it did, or nothing.
PREPARATIONS: list[Callable[[Configuration], None]] = [load_divisions, demonstrate]


def run_command() -> None:
    """Start the database, bring it to the newest schema, load what is missing, serve."""
    logs.configure()
    with stoppable():
        check_settings()
        server = ServerSettings.load()
        bound = listen(server.host, server.port)  # before the slow part: the port may be taken
        with bound, database(make=True) as url:
            configuration = Configuration.load(url)
            migrate(url)
            make_accounts(configuration)
            for prepare in PREPARATIONS:
                prepare(configuration)
            check_before_serving(configuration)
            open_door(configuration, bound, f" ; accounts: {configuration.paths.credentials}")
    typer.echo("stopped")


def serve_command() -> None:
    """Serve a database that `yutu run` or `yutu db migrate` prepared."""
    logs.configure()
    with stoppable():
        check_settings()
        server = ServerSettings.load()
        bound = listen(server.host, server.port)
        with bound, database() as url:
            configuration = Configuration.load(url)
            check_before_serving(configuration)
            open_door(configuration, bound)
    typer.echo("stopped")


def open_door(configuration: Configuration, bound: socket.socket, more: str = "") -> None:
    """Say where, and for phones how, then serve until told to stop."""
    made = certificates(configuration)
    typer.echo(f"渝图 Yutu serves {address(bound, configuration.server.tls)}{more}")
    if made is not None:
        for line in phone_instructions(made, bound, configuration.server.more_names):
            typer.echo(line)
    serve(configuration, bound, made)


def make_accounts(configuration: Configuration) -> None:
    """The first run's accounts, if there are none."""
    engine = owner_engine(configuration.database_url)
    try:
        if first_run(engine, configuration.paths.credentials):
            typer.echo(f"made the first accounts: {configuration.paths.credentials}")
    finally:
        engine.dispose()
