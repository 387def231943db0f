"""Accounts: who may ask, with which role, for which districts and operators.

Passwords are Argon2id hashes; API keys are in `data.api_keys`. The first run makes one account per
role with random secrets, told once in `var/credentials.json`. An account that signs in elsewhere
(`data.identities`) has no password here: nothing matches `NO_PASSWORD`.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pwdlib import PasswordHash
from pwdlib.exceptions import PwdlibError
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import Connection, Engine, Row, func, select, text, update

from data.api_keys import draw_key, revoke_all_keys, store_key
from data.audit import record
from data.database import CITY, Scope
from data.passwords import CHARACTERS_MAX, password_faults
from data.tables import ROLES
from data.tables_reports import account
from geo.errors import Conflict, Fault, InvalidInput, NotFound, Unavailable

USERNAME = re.compile(r"[a-z][a-z0-9._-]{0,62}")
FIRST_RUN_LOCK = 7110
HASHERS_AT_ONCE = 2  # each takes 64 MiB and a core
HASH_WAIT_S = 4.0
NO_PASSWORD = "!"  # noqa: S105 - no hash at all

#: name → (role, districts); 渝中区 and 沙坪坝区, whose extent no reform has changed.
FIRST_RUN: dict[str, tuple[str, Sequence[str]]] = {
    "viewer": ("viewer", CITY),
    "field": ("field", ("500103",)),
    "field-other": ("field", ("500106",)),
    "utility": ("utility", CITY),
    "planner": ("planner", CITY),
    "commander": ("commander", CITY),
    "admin": ("admin", CITY),
}

#: Argon2id as RFC 9106 recommends it where memory is short.
_PASSES, _MEMORY_KIB, _LANES, _HASH_BYTES, _SALT_BYTES = 3, 65_536, 4, 32, 16
_hashing = PasswordHash(
    (Argon2Hasher(_PASSES, _MEMORY_KIB, _LANES, _HASH_BYTES, _SALT_BYTES),),
)
_hashers = threading.BoundedSemaphore(HASHERS_AT_ONCE)


def _hash_of_nothing() -> str:
    """A hash that took no time to make and that no password has; to verify it takes as long."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode()
        for size in (_SALT_BYTES, _HASH_BYTES)
    )
    return f"$argon2id$v=19$m={_MEMORY_KIB},t={_PASSES},p={_LANES}${salt}${digest}"


_absent_hash = _hash_of_nothing()


@dataclass(frozen=True, slots=True)
class Account:
    """One user. `districts` and `operators` are `("*",)` or codes; `epoch` dates its tokens."""

    username: str
    role: str
    districts: tuple[str, ...]
    operators: tuple[str, ...] = CITY
    epoch: int = 0
    active: bool = True

    @property
    def city_wide(self) -> bool:
        return self.districts == CITY

    @property
    def scope(self) -> Scope:
        """What row-level security lets through for it."""
        return Scope(self.districts, self.operators)

    def sees(self, adcode: str | None) -> bool:
        """Whether a district, or None for outside the city, is within the account's scope."""
        return self.city_wide or adcode in self.districts

    def speaks_for(self, operator: str) -> bool:
        """Whether the account may report on this operator's facilities."""
        return self.operators == CITY or operator in self.operators


@dataclass(frozen=True, slots=True)
class NewCredentials:
    """Secrets of an account, known only here and to whoever is told."""

    username: str
    password: str
    api_key: str
    districts: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "username": self.username,
            "password": self.password,
            "api_key": self.api_key,
            "districts": list(self.districts),
        }


def all_accounts(connection: Connection) -> list[Account]:
    """Every account, locked ones included."""
    return [_account(row) for row in connection.execute(select(account))]


def authenticate(engine: Engine, username: str, password: str) -> Account | None:
    """The account if the password is its own, else None; both take the time of one hash.

    Blocks for a hash (~50 ms); call it in a thread. Raises Unavailable when too many wait.
    """
    row = None
    plausible = USERNAME.fullmatch(username) and len(password) <= CHARACTERS_MAX
    if plausible:
        with engine.connect() as connection:
            row = connection.execute(select(account).where(account.c.username == username)).first()
    if not _hashers.acquire(timeout=HASH_WAIT_S):
        raise Unavailable("too many sign-ins at once; try again", retry_after_s=5)
    try:
        right = _hashing.verify(
            password if plausible else "",
            row.password_hash if row and row.password_hash != NO_PASSWORD else _absent_hash,
        )
    except PwdlibError:  # a hash of an unknown make
        right = False
    finally:
        _hashers.release()
    return _account(row) if row is not None and right and row.active else None


def create_account(
    connection: Connection,
    username: str,
    role: str,
    districts: Sequence[str] = CITY,
    operators: Sequence[str] = CITY,
    *,
    password: str | None = None,
    new: NewCredentials | None = None,
) -> NewCredentials:
    """Add an account in the caller's transaction; secrets not given are drawn at random.

    Raises InvalidInput for a malformed name, role, scope or weak password, Conflict if it exists.
    """
    _check(username, role, districts, operators, password)
    new = new or _draw(username, districts, password)
    added = connection.execute(
        text(
            "INSERT INTO account (username, role, districts, operators, password_hash)"
            " VALUES (:username, :role, :districts, :operators, :hash)"
            " ON CONFLICT (username) DO NOTHING"
        ),
        {
            "username": username,
            "role": role,
            "districts": list(districts),
            "operators": list(operators),
            "hash": _hashing.hash(new.password),
        },
    )
    if added.rowcount != 1:
        raise Conflict(f"an account {username} exists already")
    store_key(connection, username, new.api_key)
    record(
        connection,
        "account.made",
        subject=f"account:{username}",
        detail={"role": role, "districts": districts, "operators": operators},
    )
    return new


def reset_account(connection: Connection, username: str) -> NewCredentials:
    """New password and key for `username`; every token, session and other key of it ends."""
    row = connection.execute(select(account).where(account.c.username == username)).first()
    if row is None:
        raise NotFound(f"there is no account {username}")
    new = _draw(username, row.districts, None)
    connection.execute(
        update(account)
        .where(account.c.username == username)
        .values(
            password_hash=_hashing.hash(new.password),
            token_epoch=account.c.token_epoch + 1,
            active=True,
        )
    )
    revoke_all_keys(connection, username)
    store_key(connection, username, new.api_key)
    record(connection, "account.reset", subject=f"account:{username}")
    return new


def set_password(connection: Connection, username: str, password: str | None = None) -> str:
    """Another password, drawn at random when not given; sessions and tokens end, keys go on.

    Raises NotFound, and InvalidInput for a weak password.
    """
    if password is not None and (faults := password_faults(password, username)):
        raise InvalidInput(faults)
    new = password or secrets.token_urlsafe(18)
    _change(connection, username, "account.password", password_hash=_hashing.hash(new))
    return new


def lock_account(connection: Connection, username: str) -> None:
    """Refuse everything of `username` from now on, until it is unlocked or reset."""
    _change(connection, username, "account.locked", active=False)


def unlock_account(connection: Connection, username: str) -> None:
    """Take the account's password and keys again; tokens and sessions from before stay ended."""
    _change(connection, username, "account.unlocked", active=True)


def _change(connection: Connection, username: str, act: str, **values: object) -> None:
    """Set columns and end every token and session given out so far; `act` is what it is called."""
    done = connection.execute(
        update(account)
        .where(account.c.username == username)
        .values(token_epoch=account.c.token_epoch + 1, **values)
    )
    if done.rowcount != 1:
        raise NotFound(f"there is no account {username}")
    record(connection, act, subject=f"account:{username}")


def first_run(engine: Engine, path: Path) -> bool:
    """Make the accounts of `FIRST_RUN` if there is none at all; True if they were made.

    The file is durable before the commit: a crash between leaves secrets of accounts that do not
    exist (the next start replaces them), never accounts whose secrets nobody knows.
    """
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": FIRST_RUN_LOCK})
        if connection.execute(select(func.count()).select_from(account)).scalar_one():
            return False
        drawn = {name: _draw(name, scope, None) for name, (_, scope) in FIRST_RUN.items()}
        for name, (role, districts) in FIRST_RUN.items():
            create_account(connection, name, role, districts, new=drawn[name])
        _write_secret_file(path, {name: new.as_json() for name, new in drawn.items()})
    return True


def _draw(username: str, districts: Sequence[str], password: str | None) -> NewCredentials:
    return NewCredentials(
        username=username,
        password=password or secrets.token_urlsafe(18),
        api_key=draw_key(),
        districts=tuple(districts),
    )


def _check(
    username: str,
    role: str,
    districts: Sequence[str],
    operators: Sequence[str],
    password: str | None,
) -> None:
    faults = []
    if not USERNAME.fullmatch(username):
        rule = "is 1 to 63 of a-z, 0-9, '.', '_', '-', beginning with a letter"
        faults.append(Fault(rule, None, "username"))
    if role not in ROLES:
        faults.append(Fault(f"is one of {', '.join(ROLES)}", None, "role"))
    if tuple(districts) != CITY and not (
        districts and all(re.fullmatch(r"\d{6}", code, re.ASCII) for code in districts)
    ):
        faults.append(Fault("is * or district codes of six digits", None, "districts"))
    # the database is told a scope as a list parted by commas
    if tuple(operators) != CITY and not all(one and not set(one) & set(",*") for one in operators):
        faults.append(Fault("is * or operators, each without a comma or *", None, "operators"))
    if password is not None:
        faults += password_faults(password, username)
    if faults:
        raise InvalidInput(faults)


def _account(row: Row[Any]) -> Account:
    return Account(
        username=row.username,
        role=row.role,
        districts=tuple(row.districts),
        operators=tuple(row.operators),
        epoch=row.token_epoch,
        active=row.active,
    )


def _write_secret_file(path: Path, content: dict[str, Any]) -> None:
    """Replace `path` at once, mode 0600 from its first byte, on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        draft.unlink(missing_ok=True)
