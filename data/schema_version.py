"""Whether a database has the newest schema."""

from __future__ import annotations

from functools import cache

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from data.database import alembic_config


@cache
def newest_schema() -> str:
    """The revision the migrations of this checkout lead to."""
    return str(ScriptDirectory.from_config(alembic_config("")).get_current_head())


def has_schema(connection: Connection) -> bool:
    """Whether the database was ever migrated."""
    found = connection.execute(text("SELECT to_regclass('alembic_version')")).scalar()
    return found is not None


def has_newest_schema(connection: Connection) -> bool:
    """False also for a database that was never migrated."""
    if not has_schema(connection):
        return False
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars()
    return set(found) == {newest_schema()}
