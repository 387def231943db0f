"""What `yutu run` loads before it serves: districts, and for a demonstration, data and a storm."""

from __future__ import annotations

import threading

import structlog
import typer
from sqlalchemy import Engine, text

from api.deps import Configuration
from data.database import app_engine, owner_engine, reading
from data.default_divisions import ensure_default_divisions
from data.demo import load_demo, play
from data.demo_scenario import LENGTH_MINUTES
from data.rulepacks import load_packs
from geo.errors import Conflict, Unavailable

STATEMENT_S = 600

log = structlog.get_logger()


def load_divisions(configuration: Configuration) -> None:
    """The districts since 2025-11-06 and those before, into a database that has none."""
    engine = owner_engine(configuration.database_url)
    try:
        if ensure_default_divisions(engine):
            typer.echo("loaded the districts in force since 2025-11-06 and those before")
    finally:
        engine.dispose()


def demonstrate(configuration: Configuration) -> None:
    """A synthetic inventory into a database without facilities, and its storm, once, beside the
    requests; only where the operator has not said no."""
    if not configuration.demo.wanted(configuration.database):
        return
    engine = app_engine(configuration.database_url, pool_size=4, statement_timeout_s=STATEMENT_S)
    with reading(engine) as connection:
        empty = connection.execute(text("SELECT 1 FROM facility LIMIT 1")).first() is None
    if empty:
        typer.echo("loading the demonstration inventory (synthetic) …")
        typer.echo(f"loaded {load_demo(engine).created} synthetic facilities")
    threading.Thread(target=_play, args=(engine,), name="demonstration", daemon=True).start()


def _play(engine: Engine) -> None:
    """Play the storm unless it was played before; the log says when it begins and ends."""
    begun = False

    def tell(minute: int) -> None:
        nonlocal begun
        if not begun:
            log.info("demonstration_begins", minute=minute, minutes=LENGTH_MINUTES)
        begun = True

    try:
        played = play(engine, packs=load_packs(), after_minute=tell)
        if begun:
            log.info("demonstration_ended", steps=played.steps, new=played.fresh)
    except (Conflict, Unavailable) as error:
        log.info("demonstration_not_played", reason=str(error))
    except Exception as error:  # the service must not end with its demonstration
        log.warning("demonstration_broke_off", error=type(error).__name__)
    finally:
        engine.dispose()
