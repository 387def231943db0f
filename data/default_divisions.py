"""The shipped divisions, loaded once into a database that has none."""

from __future__ import annotations

from sqlalchemy import Engine, text

from data.divisions import store_version
from data.readers.boundaries import default_divisions

#: Held by whoever loads or changes divisions.
DIVISIONS_LOCK = 7104


def ensure_default_divisions(engine: Engine) -> bool:
    """Load the districts since 2025-11-06 and those before, unless any are loaded; whether it did.

    `engine` has the owner's rights. Safe when two processes start at once.
    """
    with engine.begin() as connection:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({DIVISIONS_LOCK})"))
        if connection.execute(text("SELECT 1 FROM division_version LIMIT 1")).first():
            return False
        for division in default_divisions():
            store_version(
                connection,
                division.frame,
                label=division.label,
                valid_from=division.valid_from,
                valid_to=division.valid_to,
                source=division.source,
                licence=division.licence,
                note=division.note,
            )
    return True
