"""Who an identity provider's people are here: an account each, made at the first sign-in.

An account is found by issuer and subject, which never change and are never given to another. Its
role and scope follow the provider's groups at each sign-in. An account made here by hand is never
taken over: a name that is taken gets a part of the subject's hash behind it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine, Row, text

from data.accounts import NO_PASSWORD, USERNAME, Account
from data.audit import origin, record

FALLBACK = "sso"
#: One sign-in of an identity at a time, so that two at once make one account.
_LOCK = "SELECT pg_advisory_xact_lock(7112, hashtext(:key))"


@dataclass(frozen=True, slots=True)
class Identity:
    """A person as the provider knows it. `name` is only a wish for the account's name."""

    issuer: str
    subject: str
    name: str = ""


def sign_on(
    engine: Engine,
    who: Identity,
    role: str,
    districts: Sequence[str],
    operators: Sequence[str],
) -> Account | None:
    """The account of `who` with this role and scope, durable; None when it is locked here.

    A change of role or scope ends the tokens and sessions that still have the former.
    """
    with engine.begin() as connection:
        row = _known(connection, who)
        made = row is None
        if row is None:
            row = _make(connection, who, role, districts, operators)
        if not row.active:
            return None
        granted = {"role": role, "districts": districts, "operators": operators}
        changed = False
        if (row.role, tuple(row.districts), tuple(row.operators)) != (
            role,
            tuple(districts),
            tuple(operators),
        ):
            changed = True
            row = connection.execute(
                text(
                    "UPDATE account SET role = :role, districts = :districts,"
                    " operators = :operators, token_epoch = token_epoch + 1"
                    " WHERE username = :username RETURNING *"
                ),
                {
                    "role": role,
                    "districts": list(districts),
                    "operators": list(operators),
                    "username": row.username,
                },
            ).one()
        name = f"account:{row.username}"
        by = replace(origin(), means="single sign-on")
        if made or changed:
            record(
                connection,
                "account.made" if made else "account.changed",
                subject=name,
                detail=granted,
                by=by,
            )
        record(connection, "sign_in", account=row.username, subject=name, by=by)
        return Account(
            row.username, row.role, tuple(row.districts), tuple(row.operators), row.token_epoch
        )


def end_sign_on(engine: Engine, who: Identity) -> None:
    """`who` is in no group that may do anything here any more: end what was given out before."""
    with engine.begin() as connection:
        row = _known(connection, who)
        if row is not None:
            connection.execute(
                text("UPDATE account SET token_epoch = token_epoch + 1 WHERE username = :username"),
                {"username": row.username},
            )
            record(
                connection,
                "sign_in",
                account=row.username,
                subject=f"account:{row.username}",
                detail={"why": "in no group that may"},
                outcome="refused",
                by=replace(origin(), means="single sign-on"),
            )


def _known(connection: Connection, who: Identity) -> Row[tuple[object, ...]] | None:
    connection.execute(text(_LOCK), {"key": f"{who.issuer}\n{who.subject}"})
    return connection.execute(
        text(
            "SELECT a.* FROM account a JOIN account_identity i USING (username)"
            " WHERE i.issuer = :issuer AND i.subject = :subject FOR UPDATE OF a"
        ),
        {"issuer": who.issuer, "subject": who.subject},
    ).one_or_none()


def _make(
    connection: Connection,
    who: Identity,
    role: str,
    districts: Sequence[str],
    operators: Sequence[str],
) -> Row[tuple[object, ...]]:
    digest = hashlib.sha256(f"{who.issuer}\n{who.subject}".encode()).hexdigest()
    wanted = _name(who.name)
    for name in (wanted, f"{wanted[:54]}.{digest[:8]}", f"{FALLBACK}.{digest[:40]}"):
        row = connection.execute(
            text(
                "INSERT INTO account (username, role, districts, operators, password_hash)"
                " VALUES (:username, :role, :districts, :operators, :hash)"
                " ON CONFLICT (username) DO NOTHING RETURNING *"
            ),
            {
                "username": name,
                "role": role,
                "districts": list(districts),
                "operators": list(operators),
                "hash": NO_PASSWORD,
            },
        ).one_or_none()
        if row is not None:
            break
    else:
        raise RuntimeError("every name of an identity is taken")
    connection.execute(
        text(
            "INSERT INTO account_identity (issuer, subject, username)"
            " VALUES (:issuer, :subject, :username)"
        ),
        {"issuer": who.issuer, "subject": who.subject, "username": row.username},
    )
    return row


def _name(wish: str) -> str:
    """A name an account may have, as near to the wish as can be."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", wish.lower().partition("@")[0]).strip("-._")[:54]
    return plain if USERNAME.fullmatch(plain) else FALLBACK
