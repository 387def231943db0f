"""`yutu demo`: a made-up inventory and a made-up storm, to see what the service does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from sqlalchemy import Engine

from api.commands.private_database import newest_database, stoppable
from data.database import app_engine
from data.demo import (
    FACILITIES,
    MINUTES_PER_SECOND,
    SEED,
    check_allowed,
    clear_demo,
    load_demo,
    play,
)
from data.demo_scenario import LENGTH_MINUTES
from data.settings import DatabaseSettings, DemoSettings

app = typer.Typer(no_args_is_help=True, help="Synthetic data and a demonstration event.")

_STATEMENT_S = 600


@contextmanager
def _demo_engine() -> Iterator[Engine]:
    check_allowed(DatabaseSettings.load(), DemoSettings.load())
    with newest_database() as (url, _):
        engine = app_engine(url, pool_size=3, statement_timeout_s=_STATEMENT_S)
        try:
            yield engine
        finally:
            engine.dispose()


@app.command("load")
def load_command(
    facilities: Annotated[int, typer.Option(help="How many; 2000 to 1000000.")] = FACILITIES,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same rows.")] = SEED,
) -> None:
    """Store a synthetic inventory in a database that has no facilities."""
    with _demo_engine() as engine:
        imported = load_demo(engine, facilities, seed)
    typer.echo(f"{imported.created + imported.edited} synthetic facilities are in force")


@app.command("play")
def play_command(
    minutes_per_second: Annotated[
        float, typer.Option(min=0.01, help="Minutes of the event per second.")
    ] = MINUTES_PER_SECOND,
    at_once: Annotated[bool, typer.Option("--at-once", help="As fast as it is stored.")] = False,
) -> None:
    """Play the demonstration event, or go on with one that was interrupted; once only."""

    def tell(minute: int) -> None:
        typer.echo(f"minute {minute} of {LENGTH_MINUTES}")

    with stoppable(), _demo_engine() as engine:
        played = play(engine, None if at_once else minutes_per_second, after_minute=tell)
        if played.steps:
            typer.echo(f"played: {played.fresh} of {played.steps} steps were new")
        else:
            typer.echo("it was played before; nothing is repeated")


@app.command("clear")
def clear_command() -> None:
    """Take all synthetic facilities out of force; nothing is erased."""
    with _demo_engine() as engine:
        retired = clear_demo(engine)
    typer.echo(f"{retired} synthetic facilities retired")
