"""API keys: several an account may have, each narrowing it, each ending for itself.

A key is 256 random bits of which only the SHA-256 is stored. It may have a role, districts and
operators of its own, which never reach further than the account's, and an end. Rotating makes a
second key with the same limits and lets the first hold for a while, so that a device can be moved.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, insert, select, text, update

from data.audit import record
from data.database import CITY
from data.tables_access import account_key
from data.tables_reports import account
from geo.errors import Fault, InvalidInput, NotFound

if TYPE_CHECKING:
    from data.accounts import Account

LABEL_CHARACTERS_MAX = 100
FIRST_LABEL = "first"
#: Keys that hold, of one account: enough for its devices and their successors.
KEYS_MAX = 50
OVERLAP_DAYS_MAX = 90
ENDED_KEPT_DAYS = 90

#: Role of an account → roles its keys may have. A role may only do less than the account's:
#: tests/api/test_policy.py holds this against the policy table.
NARROWER: Mapping[str, frozenset[str]] = {
    "viewer": frozenset({"viewer"}),
    "field": frozenset({"field"}),
    "utility": frozenset({"utility"}),
    "planner": frozenset({"planner", "viewer"}),
    "commander": frozenset({"commander", "field", "viewer"}),
    "admin": frozenset({"admin", "planner", "viewer"}),
}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; never the key itself. None in a limit: as the account."""

    id: int
    username: str
    label: str
    sha256: bytes
    role: str | None
    districts: tuple[str, ...] | None
    operators: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def narrowed(self, owner: Account) -> Account | None:
        """The account as this key has it; None when nothing is left of it."""
        role = self.role or owner.role
        districts = _within(self.districts, owner.districts)
        operators = _within(self.operators, owner.operators)
        if role not in NARROWER[owner.role] or not districts or not operators:
            return None
        return replace(owner, role=role, districts=districts, operators=operators)

    def ended_by(self, moment: datetime) -> bool:
        ends = [one for one in (self.expires_at, self.revoked_at) if one is not None]
        return any(one <= moment for one in ends)

    def as_json(self) -> dict[str, Any]:
        """What `yutu account keys list` shows."""
        times = ("created_at", "expires_at", "revoked_at", "last_used_at")
        moments = {name: getattr(self, name) for name in times}
        return {
            "id": self.id,
            "label": self.label,
            "role": self.role,
            "districts": self.districts,
            "operators": self.operators,
            **{name: None if at is None else at.isoformat() for name, at in moments.items()},
            "holds": not self.ended_by(datetime.now(UTC)),
        }


def key_sha256(api_key: str) -> bytes:
    """What is stored of an API key. A fast hash is enough for 256 random bits."""
    return hashlib.sha256(api_key.encode()).digest()


def draw_key() -> str:
    """A new key, to be told once."""
    return f"yutu_{secrets.token_urlsafe(32)}"


def store_key(
    connection: Connection,
    username: str,
    api_key: str,
    *,
    label: str = FIRST_LABEL,
    role: str | None = None,
    districts: Sequence[str] | None = None,
    operators: Sequence[str] | None = None,
    expires_at: datetime | None = None,
) -> int:
    """Have `api_key` open this account from now on; returns the key's id.

    Raises NotFound without such an account, InvalidInput for limits that reach further than it.
    """
    owner = connection.execute(
        select(account).where(account.c.username == username).with_for_update()
    ).one_or_none()
    if owner is None:
        raise NotFound(f"there is no account {username}")
    _check(owner, label, role, districts, operators, expires_at)
    holding = [key for key in keys_of(connection, username) if not key.ended_by(datetime.now(UTC))]
    if len(holding) >= KEYS_MAX:
        raise InvalidInput(f"{username} has {KEYS_MAX} keys; revoke one that is not used")
    added = connection.execute(
        insert(account_key)
        .values(
            username=username,
            label=label,
            sha256=key_sha256(api_key),
            role=role,
            districts=None if districts is None else list(districts),
            operators=None if operators is None else list(operators),
            expires_at=expires_at,
        )
        .returning(account_key.c.id)
    )
    key_id = int(added.scalar_one())
    limits = {"role": role, "districts": districts, "operators": operators}
    record(
        connection,
        "key.made",
        subject=f"account:{username}",
        detail={"key": key_id, "expires_at": expires_at and expires_at.isoformat(), **limits},
    )
    return key_id


def keys_of(connection: Connection, username: str) -> list[ApiKey]:
    """Every key of an account, ended ones too, oldest first."""
    found = connection.execute(
        select(account_key).where(account_key.c.username == username).order_by(account_key.c.id)
    )
    return [_key(row) for row in found]


def holding_keys(connection: Connection) -> list[ApiKey]:
    """The keys of all accounts that are not revoked and not over."""
    found = connection.execute(
        select(account_key).where(
            text("revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())")
        )
    )
    return [_key(row) for row in found]


def rotate_key(
    connection: Connection, username: str, key_id: int, *, overlap: timedelta = timedelta(0)
) -> tuple[int, str]:
    """A successor with the same limits; the old key holds for `overlap` more. Tells id and key.

    Raises NotFound for a key that is not the account's, InvalidInput for one that has ended.
    """
    if not timedelta(0) <= overlap <= timedelta(days=OVERLAP_DAYS_MAX):
        raise InvalidInput([Fault(f"is at most {OVERLAP_DAYS_MAX} days", None, "overlap")])
    now = datetime.now(UTC)
    old = _one(connection, username, key_id)
    if old.ended_by(now):
        raise InvalidInput([Fault("has ended; make a new one", None, "key")])
    ends = now + overlap
    connection.execute(
        update(account_key)
        .where(account_key.c.id == key_id)
        .values(expires_at=ends if old.expires_at is None else min(ends, old.expires_at))
    )
    lifetime = None if old.expires_at is None else old.expires_at - old.created_at
    new = draw_key()
    new_id = store_key(
        connection,
        username,
        new,
        label=old.label,
        role=old.role,
        districts=old.districts,
        operators=old.operators,
        expires_at=None if lifetime is None else now + lifetime,
    )
    record(
        connection,
        "key.rotated",
        subject=f"account:{username}",
        detail={"key": key_id, "successor": new_id},
    )
    return new_id, new


def revoke_key(connection: Connection, username: str, key_id: int) -> None:
    """Refuse this key from now on. Raises NotFound for one that is not the account's."""
    _one(connection, username, key_id)
    revoked = connection.execute(
        text("UPDATE account_key SET revoked_at = now() WHERE id = :id AND revoked_at IS NULL"),
        {"id": key_id},
    )
    if revoked.rowcount:
        record(connection, "key.revoked", subject=f"account:{username}", detail={"key": key_id})


def revoke_all_keys(connection: Connection, username: str) -> None:
    connection.execute(
        text(
            "UPDATE account_key SET revoked_at = now()"
            " WHERE username = :username AND revoked_at IS NULL"
        ),
        {"username": username},
    )


def note_uses(connection: Connection, used_at: Mapping[int, datetime]) -> None:
    """Keep when keys were last used, in order of id; an earlier time changes nothing."""
    connection.execute(
        text(
            "UPDATE account_key k SET last_used_at = u.at"
            " FROM (SELECT * FROM unnest(CAST(:ids AS bigint[]), CAST(:times AS timestamptz[]))"
            "       AS u (id, at) ORDER BY id) u"
            " WHERE k.id = u.id AND (k.last_used_at IS NULL OR k.last_used_at < u.at)"
        ),
        {"ids": sorted(used_at), "times": [used_at[one] for one in sorted(used_at)]},
    )


def _one(connection: Connection, username: str, key_id: int) -> ApiKey:
    row = connection.execute(
        select(account_key)
        .where(account_key.c.id == key_id, account_key.c.username == username)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise NotFound(f"{username} has no key {key_id}")
    return _key(row)


def _check(
    owner: Row[Any],
    label: str,
    role: str | None,
    districts: Sequence[str] | None,
    operators: Sequence[str] | None,
    expires_at: datetime | None,
) -> None:
    faults = []
    if not 0 < len(label) <= LABEL_CHARACTERS_MAX or not label.isprintable():
        faults.append(Fault(f"is 1 to {LABEL_CHARACTERS_MAX} characters", None, "label"))
    if role is not None and role not in NARROWER[owner.role]:
        allowed = ", ".join(sorted(NARROWER[owner.role]))
        faults.append(Fault(f"of a key of this account is one of {allowed}", None, "role"))
    for field, asked, held in (
        ("districts", districts, tuple(owner.districts)),
        ("operators", operators, tuple(owner.operators)),
    ):
        if asked is not None and _within(asked, held) != tuple(asked):
            faults.append(Fault("of a key lie within those of the account", None, field))
    if expires_at is not None and expires_at <= datetime.now(UTC):
        faults.append(Fault("lies ahead of now", None, "expires_at"))
    if faults:
        raise InvalidInput(faults)


def _within(asked: Iterable[str] | None, held: tuple[str, ...]) -> tuple[str, ...]:
    """What of `asked` (None: everything) lies within `held`, where `*` is everything."""
    if asked is None:
        return held
    wanted = tuple(asked)
    if held == CITY:
        return wanted
    return held if wanted == CITY else tuple(one for one in wanted if one in held)


def _key(row: Row[Any]) -> ApiKey:
    def limit(codes: list[str] | None) -> tuple[str, ...] | None:
        return None if codes is None else tuple(codes)

    return ApiKey(
        id=row.id,
        username=row.username,
        label=row.label,
        sha256=bytes(row.sha256),
        role=row.role,
        districts=limit(row.districts),
        operators=limit(row.operators),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
