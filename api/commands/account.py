"""`yutu account`: make, reset and lock accounts. Secrets are printed once and kept nowhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from sqlalchemy import Connection

from api.commands.private_database import database
from data.accounts import NewCredentials, create_account, lock_account, reset_account
from data.database import owner_engine

app = typer.Typer(no_args_is_help=True, help="Accounts.")

Username = Annotated[str, typer.Argument(help="a-z, 0-9, '.', '_', '-'")]
Scope = Annotated[list[str], typer.Option(help="repeatable; * for all")]


@app.command("add")
def add_command(
    username: Username,
    role: Annotated[str, typer.Option(help="viewer, field, utility, planner, commander, admin")],
    district: Scope = ["*"],  # noqa: B006 - typer copies it
    operator: Scope = ["*"],  # noqa: B006
) -> None:
    """Make an account and print its password and API key, this once."""
    with _transaction() as connection:
        new = create_account(connection, username, role, district, operator)
    _tell(new)


@app.command("reset")
def reset_command(username: Username) -> None:
    """New password and API key, printed this once; sessions and tokens end within a second."""
    with _transaction() as connection:
        new = reset_account(connection, username)
    _tell(new)


@app.command("lock")
def lock_command(username: Username) -> None:
    """Refuse everything of the account within a second; reset opens it again."""
    with _transaction() as connection:
        lock_account(connection, username)
    typer.echo(f"{username} is locked")


@contextmanager
def _transaction() -> Iterator[Connection]:
    with database() as url:
        engine = owner_engine(url)
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()


def _tell(new: NewCredentials) -> None:
    typer.echo(json.dumps(new.as_json(), ensure_ascii=False, indent=2))
