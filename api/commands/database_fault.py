"""An error of the database as the operator of a command reads it: one line, what is wrong and what
to do. It repeats no statement and no value: those hold hashes, phone numbers and passwords."""

from __future__ import annotations

import psycopg
from alembic.util.exc import CommandError
from psycopg import errors
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from geo.errors import Unavailable

NO_SCHEMA = "the database has no schema yet; run yutu db migrate"
OLD_SCHEMA = "the schema is not the newest; run yutu db migrate"
CHARACTERS_SHOWN = 300

#: What a statement finds missing although the schema says it is the newest: a table, a column, a
#: function, a type. Their messages hold names alone.
_UNKNOWN = (
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.UndefinedFunction,
    errors.UndefinedObject,
    errors.InvalidSchemaName,
)
_BUSY = (errors.LockNotAvailable, errors.DeadlockDetected, errors.QueryCanceled)


def unavailable(error: Exception) -> Unavailable | None:
    """What to say instead of it; None of what is not an error of the database."""
    if isinstance(error, CommandError):  # the migrations know nothing of the schema found
        return Unavailable(f"the schema cannot be migrated: {_first_line(str(error))}")
    if isinstance(error, NoConnection):
        return Unavailable("the database is busy: no connection became free; try again")
    found = error.orig if isinstance(error, DBAPIError) else error
    return Unavailable(_reason(found)) if isinstance(found, psycopg.Error) else None


def _reason(error: psycopg.Error) -> str:
    said = _first_line(error.diag.message_primary or "")
    if error.sqlstate is None and isinstance(error, psycopg.OperationalError):
        why = _first_line(str(error))
        return f"the database cannot be reached: {why}; is YUTU_DATABASE_URL right?"
    if isinstance(error, _UNKNOWN) or (
        isinstance(error, errors.InvalidParameterValue) and said.startswith('role "')
    ):
        return f"the schema is not whole: {said}; yutu db check names what is missing"
    if isinstance(error, errors.InsufficientPrivilege):
        return f"{said}: YUTU_DATABASE_URL must name the owner of the database"
    if isinstance(error, _BUSY):
        return "the database is busy: the command waited too long for another; try again"
    if isinstance(error, psycopg.OperationalError):  # no room, no connection left, shutting down
        return f"the database cannot do it now: {said}"
    table, rule = error.diag.table_name, error.diag.constraint_name
    of = "".join(f", {kind} {name}" for kind, name in (("table", table), ("rule", rule)) if name)
    return f"the database refused it: {type(error).__name__} ({error.sqlstate}{of})"


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[0][:CHARACTERS_SHOWN]
