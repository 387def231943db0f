"""Who did what: rows of the audit trail, appended in the transaction of the act itself.

A row is there if and only if what it tells was committed. It is appended as late in its transaction
as can be, for others wait for the end of the chain until COMMIT; never after `publish_change`,
behind which events of status wait. docs/meanings.md, "Audit trail", says what a row may hold.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg
from sqlalchemy import Connection, text

TEXT_CHARACTERS_MAX = 200
LISTED_MAX = 50
MEMBERS_MAX = 40
#: Names of objects, given by whoever sent them.
NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,160}")
#: In a name only what surely is a telephone number: order numbers have many digits too.
TELEPHONE = re.compile(
    r"(?<!\d)(?:\+?86[\s-]?)?1[3-9]\d(?:[\s-]?\d{4}){2}(?!\d)"
    r"|(?<!\d)\(?0\d{2,3}\)?[\s-]?\d{7,8}(?!\d)"
)
#: In other text what could be one, with spaces, dashes and brackets between its digits.
DIGITS = re.compile(r"\d(?:[\s().+-]*\d){6,}")
#: No telephone number is in these, whatever digits they have.
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SHA256 = re.compile(r"[0-9a-f]{64}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\d([T ][\d:.]+(Z|[+-]\d\d:?\d\d)?)?")
PLACES = re.compile(r"-?\d{1,3}\.\d+(,-?\d{1,3}\.\d+)*")

APPEND = "SELECT append_audit({act}, {outcome}, {account}, {address}, {means}, {subject}, {detail})"
_NAMES = ("act", "outcome", "account", "address", "means", "subject", "detail")
_APPEND_SQLALCHEMY = text(APPEND.format(**{name: f":{name}" for name in _NAMES}))
_APPEND_PSYCOPG = APPEND.format(**{name: f"%({name})s" for name in _NAMES}).encode()


@dataclass(frozen=True, slots=True)
class Origin:
    """From where and by what right: an address, and the kind of credential or the shell's user."""

    address: str | None
    means: str


def _of_this_process() -> Origin:
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        user = str(os.getuid())
    return Origin(None, f"shell of {user}")


#: Set by the gate for each request; a thread or command that serves none is this process itself.
ORIGIN: ContextVar[Origin | None] = ContextVar("audit origin", default=None)


def origin() -> Origin:
    return ORIGIN.get() or _of_this_process()


def record(
    connection: Connection | psycopg.Connection[Any],
    act: str,
    *,
    account: str | None = None,
    subject: str | None = None,
    detail: Mapping[str, Any] | None = None,
    outcome: str = "done",
    by: Origin | None = None,
) -> None:
    """Append a row in the transaction of `connection`, as its last statement but for publishing.

    `account` is who did it, `subject` what it was done to as `kind:name`. Of `detail` only what
    `plain` leaves is kept.
    """
    who = by or origin()
    row = {
        "act": act,
        "outcome": outcome,
        "account": account,
        "address": who.address,
        "means": who.means,
        "subject": None if subject is None else _subject(subject),
        "detail": orjson.dumps(plain(detail or {}), option=orjson.OPT_SORT_KEYS).decode(),
    }
    if isinstance(connection, psycopg.Connection):
        connection.execute(_APPEND_PSYCOPG, row)
    else:
        connection.execute(_APPEND_SQLALCHEMY, row)


def plain(detail: Mapping[str, Any]) -> dict[str, Any]:
    """Codes, numbers and times of `detail`; text cut short, and without what may be a telephone
    number. Never a body: nested objects are left out."""
    kept: dict[str, Any] = {}
    for name, value in list(detail.items())[:MEMBERS_MAX]:
        if isinstance(value, list | tuple | set | frozenset):
            listed = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
            kept[name] = [_plain(one) for one in listed[:LISTED_MAX]]
            if len(listed) > LISTED_MAX:
                kept[f"{name}_in_all"] = len(listed)
        elif value is not None and not isinstance(value, Mapping):
            kept[name] = _plain(value)
    return kept


def _plain(value: Any) -> Any:
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)
    return masked(str(value))


def masked(said: str) -> str:
    """`said` cut short, on one line, and without what may be a telephone number."""
    said = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", " ", said[:TEXT_CHARACTERS_MAX])
    if any(known.fullmatch(said) for known in (UUID, SHA256, MOMENT, PLACES)):
        return said
    return DIGITS.sub("…", said)


def _subject(subject: str) -> str:
    """`kind:name`, the name as it is unless it is a telephone number or can be no name."""
    kind, _, name = subject.partition(":")
    if not NAME.fullmatch(name):
        return kind
    return f"{kind}:{name if UUID.fullmatch(name) else TELEPHONE.sub('…', name)}"
