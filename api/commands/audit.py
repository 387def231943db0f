"""`yutu audit`: who did what, and whether the record of it is the one that was written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from sqlalchemy import Connection, text

from api.commands.private_database import newest_database
from api.language import parse_at
from data.audit_chain import Head, check_chain, head_of
from data.audit_trail import TrailQuestion, trail
from geo.errors import Unavailable

app = typer.Typer(no_args_is_help=True, help="The audit trail: who did what when from where.")


@app.command("list")
def list_command(
    account: Annotated[str | None, typer.Option(help="Who did it.")] = None,
    act: Annotated[str | None, typer.Option(help="incident.edited, or incident for all.")] = None,
    outcome: Annotated[str | None, typer.Option(help="done or refused.")] = None,
    subject: Annotated[str | None, typer.Option(help="account:NAME, incident:ID …")] = None,
    address: Annotated[str | None, typer.Option(help="From where.")] = None,
    since: Annotated[str | None, typer.Option(help="A time with offset.")] = None,
    until: Annotated[str | None, typer.Option(help="A time with offset.")] = None,
    before: Annotated[int | None, typer.Option(help="Rows of lower number only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 100,
) -> None:
    """The newest rows, the newest first, an object of JSON a line."""
    asked = TrailQuestion(
        account, act, outcome, subject, address, parse_at(since), parse_at(until), before
    )
    with _reading() as connection:
        rows = trail(connection, asked, limit)
    for row in rows:
        typer.echo(json.dumps(row, ensure_ascii=False))


@app.command("head")
def head_command() -> None:
    """The newest row's number and hash: note it elsewhere, and give it to verify."""
    with _reading() as connection:
        head = head_of(connection)
    if head is None:
        raise Unavailable("the audit trail is empty, which it never is: rows were removed")
    typer.echo(str(head))


@app.command("verify")
def verify_command(
    head: Annotated[
        list[str] | None,
        typer.Option(help="As head printed it once; repeatable. It must be in the chain."),
    ] = None,
) -> None:
    """Compute the chain again. Ends with 1, naming the first row that is not as it was written.

    Rows cut off at the end, or a chain written anew, are found by a head that was noted elsewhere.
    """
    heads = [Head.parse(one) for one in head or ()]
    with _reading() as connection:
        check = check_chain(connection, heads)
        newest = head_of(connection)
    for example in check.examples:
        typer.echo(example)
    if check.wrong:
        hidden = check.wrong - len(check.examples)
        more = f" ({hidden} more are wrong)" if hidden else ""
        typer.echo(f"yutu: the audit trail is not as it was written{more}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{check.looked_at} rows are as they were written, up to {newest}")


@contextmanager
def _reading() -> Iterator[Connection]:
    with (
        newest_database() as (_url, engine),
        engine.connect() as connection,
        connection.begin(),
    ):
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        yield connection
