"""`yutu account`: make, lock and change accounts and their keys. Secrets are printed this once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from sqlalchemy import Connection

from api.commands.private_database import newest_database
from data.account_scope import require_districts, unknown_operators
from data.accounts import (
    NewCredentials,
    all_accounts,
    create_account,
    lock_account,
    reset_account,
    set_password,
    unlock_account,
)
from data.api_keys import draw_key, keys_of, revoke_key, rotate_key, store_key
from data.sign_in_limit import forget_failures
from geo.errors import NotFound

app = typer.Typer(no_args_is_help=True, help="Accounts.")
keys = typer.Typer(no_args_is_help=True, help="API keys of an account.")
app.add_typer(keys, name="keys")

Username = Annotated[str, typer.Argument(help="a-z, 0-9, '.', '_', '-'")]
KeyId = Annotated[int, typer.Argument(help="As `keys list` shows it.")]
Scope = Annotated[list[str], typer.Option(help="repeatable; * for all")]
Narrower = Annotated[list[str] | None, typer.Option(help="repeatable; as the account if absent")]


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
        strange = _known_scope(connection, district, operator)
    _tell_strange(strange)
    _tell(new)


@app.command("reset")
def reset_command(username: Username) -> None:
    """New password and API key, printed this once; sessions and tokens end within a second."""
    with _transaction() as connection:
        new = reset_account(connection, username)
    _tell(new)


@app.command("lock")
def lock_command(username: Username) -> None:
    """Refuse everything of the account within a second; unlock or reset opens it again."""
    with _transaction() as connection:
        lock_account(connection, username)
    typer.echo(f"{username} is locked")


@app.command("unlock")
def unlock_command(username: Username) -> None:
    """Take the account's password and keys again, and forget failed attempts at its name."""
    with _transaction() as connection:
        unlock_account(connection, username)
        forget_failures(connection, username)
    typer.echo(f"{username} is open")


@app.command("password")
def password_command(
    username: Username,
    random: Annotated[bool, typer.Option("--random", help="Draw one and print it.")] = False,
) -> None:
    """Another password, typed twice or read from standard input; sessions and tokens end, keys go
    on."""
    given = None if random else _password()
    with _transaction() as connection:
        new = set_password(connection, username, given)
        forget_failures(connection, username)
    typer.echo(new if random else f"{username} has another password")


@app.command("list")
def list_command() -> None:
    """Every account with role, scope and whether it is locked."""
    with _transaction() as connection:
        found = sorted(all_accounts(connection), key=lambda one: one.username)
    rows = [
        {
            "username": one.username,
            "role": one.role,
            "districts": one.districts,
            "operators": one.operators,
            "locked": not one.active,
        }
        for one in found
    ]
    _show(rows)


@keys.command("list")
def keys_list_command(username: Username) -> None:
    """The account's keys: limits, end, last use to the minute; never the keys themselves."""
    with _transaction() as connection:
        if all(one.username != username for one in all_accounts(connection)):
            raise NotFound(f"there is no account {username}")
        found = keys_of(connection, username)
    _show([one.as_json() for one in found])


@keys.command("add")
def keys_add_command(
    username: Username,
    label: Annotated[str, typer.Option(help="What has it: a device, a feed.")],
    role: Annotated[str | None, typer.Option(help="As the account if absent.")] = None,
    district: Narrower = None,
    operator: Narrower = None,
    days: Annotated[int | None, typer.Option(min=1, max=3660, help="Until it ends.")] = None,
) -> None:
    """Make a key beside the others and print it, this once."""
    new = draw_key()
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with _transaction() as connection:
        key_id = store_key(
            connection,
            username,
            new,
            label=label,
            role=role,
            districts=district or None,
            operators=operator or None,
            expires_at=expires_at,
        )
        strange = _known_scope(connection, district or (), operator or ())
    _tell_strange(strange)
    _show({"id": key_id, "username": username, "label": label, "api_key": new})


@keys.command("rotate")
def keys_rotate_command(
    username: Username,
    key: KeyId,
    overlap_hours: Annotated[
        float, typer.Option(min=0, help="How long the old key still holds.")
    ] = 24.0,
) -> None:
    """Make the successor of a key and print it, this once; the old one ends after the overlap."""
    with _transaction() as connection:
        key_id, new = rotate_key(connection, username, key, overlap=timedelta(hours=overlap_hours))
    _show({"id": key_id, "username": username, "replaces": key, "api_key": new})


@keys.command("revoke")
def keys_revoke_command(username: Username, key: KeyId) -> None:
    """Refuse a key within a second, for ever."""
    with _transaction() as connection:
        revoke_key(connection, username, key)
    typer.echo(f"key {key} of {username} is revoked")


def _password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("New password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


@contextmanager
def _transaction() -> Iterator[Connection]:
    with newest_database() as (_url, engine), engine.begin() as connection:
        yield connection


def _known_scope(
    connection: Connection, districts: Sequence[str], operators: Sequence[str]
) -> list[str]:
    """The operators that nothing is known of; raises InvalidInput for districts that are none."""
    require_districts(connection, districts)
    return unknown_operators(connection, operators)


def _tell_strange(operators: Sequence[str]) -> None:
    for one in operators:
        typer.echo(f"yutu: no facility and no return of {one} is known yet", err=True)


def _tell(new: NewCredentials) -> None:
    _show(new.as_json())


def _show(found: object) -> None:
    typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
