"""What the audit trail is told of requests: who is at work here, refusals, and much that was read.

docs/meanings.md, "Audit trail". Writes record themselves in their own transaction; this notes, in
memory, what happens too often for that.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, cast
from urllib.parse import parse_qsl

from fastapi import Request

from api.deps import Services
from api.policy import Rule
from data.accounts import USERNAME, Account
from data.audit import ORIGIN, Origin, masked
from data.audit_tally import SIGN_IN, AuditTally, Seen

#: So many rows of one answer are worth a row in the trail.
BULK_ROWS = 500
REFUSALS = frozenset({403, 404, 429})
#: Who is refused here has no account yet.
SINGLE_SIGN_ON = "/login/oidc/callback"
#: Parameters that say what was asked for. Pages of one list are one reading.
FILTERS = frozenset(
    {"at", "since", "until", "bbox", "plan", "adcode", "kind", "operator", "state", "open"}
    | {"possible", "filter", "account", "act", "outcome", "subject", "address", "datetime"}
)
FILTERS_MAX = 12


def work_for(address: str | None, means: str) -> None:
    """Say, for what this request does from here on, from where and by what right."""
    ORIGIN.set(Origin(address, means))


def address_of(scope: MutableMapping[str, Any]) -> str | None:
    client = scope.get("client")
    return str(client[0]) if client else None


def note_rows(request: Request, rows: int, *, always: bool = False) -> None:
    """The answer of this request shows so many rows."""
    request.scope["state"]["rows"] = rows
    request.scope["state"]["noted"] = always or rows >= BULK_ROWS


def note_sign_in_refused(services: Services, username: str, address: str | None, why: str) -> None:
    """A password was wrong, or not looked at. Nothing is kept of what can be no name."""
    claimed = username if USERNAME.fullmatch(username) else None
    by = Origin(address, "password")
    services.get(AuditTally).note(Seen(SIGN_IN, "refused", by, claimed=claimed, why=why))


def note_answer(scope: MutableMapping[str, Any], status: int) -> None:
    """Note an answer that refused someone known, or showed much."""
    state = scope["state"]
    account, rule = cast(Account | None, state.get("account")), cast(Rule | None, state.get("rule"))
    if rule is None:
        return
    by = Origin(address_of(scope), str(state.get("means") or "nothing"))
    if account is None:
        if rule.path == SINGLE_SIGN_ON and status == 403:
            seen = Seen(SIGN_IN, "refused", Origin(by.address, "single sign-on"))
            _tally(scope).note(seen)
        return
    if status in REFUSALS:
        subject = f"route:{rule.method} {rule.path}"
        _tally(scope).note(
            Seen("request", "refused", by, account.username, subject, why=str(status))
        )
    elif status < 300 and state.get("noted"):
        seen = Seen(
            "read",
            "done",
            by,
            account.username,
            f"route:{_told_path(scope, rule)}",
            filters=_filters(scope),
        )
        _tally(scope).note(seen, int(state["rows"]))


def _tally(scope: MutableMapping[str, Any]) -> AuditTally:
    return cast(Services, scope["app"].state.services).get(AuditTally)


def _told_path(scope: MutableMapping[str, Any], rule: Rule) -> str:
    """The template, with the name of the collection in it: the server knows all of those."""
    name = scope.get("path_params", {}).get("collectionId")
    return rule.path if name is None else rule.path.replace("{collectionId}", str(name))


def _filters(scope: MutableMapping[str, Any]) -> tuple[tuple[str, str], ...]:
    given: dict[str, str] = {}
    query = bytes(scope.get("query_string", b"")).decode("latin-1")
    for name, value in parse_qsl(query, errors="replace"):
        if name in FILTERS and value:
            given[name] = f"{given[name]},{value}" if name in given else value
    return tuple((name, masked(value)) for name, value in sorted(given.items())[:FILTERS_MAX])
