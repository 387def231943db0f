"""The gate: who is calling and whether the policy lets them, before any body is read.

Credentials are `Authorization: Bearer`, `X-API-Key` and the session cookie. One that is invalid is
a 401 even beside a valid one, and all must be of one account. A cookie alone may change something
only with the session's CSRF token in `X-CSRF-Token`. To anonymous callers every path that is not
open looks the same, existing or not. What is let in gets a body cut off at the rule's size.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast
from urllib.parse import quote

from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from api.audit_notes import address_of, work_for
from api.deps import Services
from api.language import language_of
from api.policy import OPEN, Match, PolicyTable, Rule
from api.problems import answer_error, problem
from api.security import SESSION_AUDIENCE, TOKEN_AUDIENCE, Claims
from data.accounts import Account
from data.api_keys import key_sha256
from data.request_limit import RequestLimits
from geo.errors import NotAllowed, TooMany, Unavailable, YutuError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

SESSION_COOKIE = "yutu_session"
CSRF_HEADER = b"x-csrf-token"
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="yutu"'}
BODY_PAUSE_S = 30.0
CREDENTIAL_BYTES_MAX = 4096


class Unauthenticated(Exception):
    """No credential, or one that does not hold; the text is for the caller."""


@dataclass(slots=True)
class Given:
    """The credentials of one request, as they came, each kind possibly more than once."""

    authorizations: list[bytes] = field(default_factory=list)
    api_keys: list[bytes] = field(default_factory=list)
    sessions: list[bytes] = field(default_factory=list)
    csrf: bytes | None = None

    @classmethod
    def of(cls, scope: Scope) -> Given:
        given = cls()
        for name, value in scope["headers"]:
            if name == b"authorization":
                given.authorizations.append(value)
            elif name == b"x-api-key":
                given.api_keys.append(value)
            elif name == b"cookie":
                given.sessions += _cookies(value, SESSION_COOKIE.encode())
            elif name == CSRF_HEADER:
                given.csrf = value
        return given

    @property
    def in_headers(self) -> bool:
        return bool(self.authorizations or self.api_keys)

    def __bool__(self) -> bool:
        return self.in_headers or bool(self.sessions)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who was recognised, by what, and the session's id when it came by cookie."""

    account: Account
    session_id: str | None
    session_ends_at: int = 0
    key_id: int | None = None
    by_token: bool = False

    @property
    def means(self) -> str:
        """The kind of credential, for the audit trail."""
        if self.key_id is not None:
            return f"key {self.key_id}"
        return "token" if self.by_token else "session"


class Gate:
    """ASGI middleware that applies the policy table and nothing else lets a request past."""

    def __init__(self, app: Application, policy: PolicyTable) -> None:
        self.app = app
        self.policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no WebSocket is served
            await send({"type": "websocket.close", "code": 1008})
            return
        # both branches below end the request or hand it on with `rule` set
        refusal = await self._refusal(scope)
        if refusal is None:
            rule: Rule = scope["state"]["rule"]
            refusal = _too_large(scope, rule)
        if refusal is not None:
            if _has_body(scope):
                refusal.headers["Connection"] = "close"  # the body stays unread
            await refusal(scope, receive, send)
            return
        await self.app(scope, _limited(receive, rule.body_bytes_max), send)

    async def _refusal(self, scope: Scope) -> Response | None:
        state = scope.setdefault("state", {})
        state["account"] = None
        lang = language_of(scope)
        work_for(address_of(scope), "nothing")
        match = self.policy.match(scope["method"], get_route_path(scope))
        rule = match.rule if match else None
        state["rule"] = rule
        if match and match.open and rule is None:
            return _unknown(match, lang)
        if rule is not None and rule.roles is OPEN:
            return None
        services = cast(Services, scope["app"].state.services)
        given = Given.of(scope)
        try:
            caller = await _recognise(given, services)
        except Unauthenticated as error:
            if rule is not None and not given.in_headers and _wants_page(scope, rule):
                return _to_login(scope)
            return problem(401, str(error), lang=lang, headers=CHALLENGE)
        except Unavailable as error:
            return answer_error(error, lang)
        state["account"] = caller.account
        state["still"] = partial(_still, caller.account, given, services)
        state["means"] = caller.means
        work_for(address_of(scope), caller.means)
        if caller.session_id is not None:
            state["session_id"] = caller.session_id
            state["session_ends_at"] = caller.session_ends_at
            state["csrf"] = services.signer.csrf(caller.session_id)
        try:
            services.get(RequestLimits).take(caller.account.username, caller.key_id)
        except TooMany as error:
            return answer_error(error, lang)
        if match is None or rule is None:
            return _unknown(match, lang)
        try:
            _authorize(rule, caller, given, services)
        except YutuError as error:
            return answer_error(error, lang)
        return None


async def _recognise(given: Given, services: Services) -> Caller:
    """The one account all credentials belong to. Raises Unauthenticated, Unavailable."""
    if not given:
        raise Unauthenticated("sign in at /login, or send a bearer token or X-API-Key")
    if len(given.sessions) > 1:
        raise Unauthenticated("more than one session cookie")
    accounts: list[Account] = []
    for header in given.authorizations:
        scheme, _, token = header.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthenticated("only Bearer tokens are taken in Authorization")
        accounts.append((await _by_token(token.strip(), TOKEN_AUDIENCE, services))[0])
    accounts += [await _by_key(key, services) for key in given.api_keys]
    key_id = None
    if given.api_keys:
        key_id = services.accounts.key_id(key_sha256(given.api_keys[0].decode("latin-1")))
    session_id, ends_at = None, 0
    if given.sessions:
        account, claims = await _by_token(given.sessions[0], SESSION_AUDIENCE, services)
        accounts.append(account)
        session_id, ends_at = claims.id, claims.expires_at
    if len({account.username for account in accounts}) > 1:
        raise Unauthenticated("the credentials belong to different accounts")
    return Caller(accounts[0], session_id, ends_at, key_id, bool(given.authorizations))


async def _still(account: Account, given: Given, services: Services) -> bool:
    """Whether the credentials that let an account in would still do, for answers that last. While
    that cannot be known it is taken to be so: then there is no news to be told either."""
    try:
        return (await _recognise(given, services)).account == account
    except Unauthenticated:
        return False
    except Unavailable:
        return True


async def _by_token(token: bytes, audience: str, services: Services) -> tuple[Account, Claims]:
    claims = services.signer.read(token.decode("latin-1"), audience)
    if claims is None:
        raise Unauthenticated("the token is invalid or expired")
    account = services.accounts.by_name(claims.username)
    if account is None or account.epoch < claims.epoch:  # our own token knows better than our book
        await services.accounts.refreshed()
        account = services.accounts.by_name(claims.username)
    if account is None or account.epoch != claims.epoch or services.accounts.has_ended(claims.id):
        raise Unauthenticated("the token is invalid or expired")
    return account, claims


async def _by_key(key: bytes, services: Services) -> Account:
    if len(key) > CREDENTIAL_BYTES_MAX:
        raise Unauthenticated("the API key is unknown")
    sha256 = key_sha256(key.decode("latin-1"))
    account = services.accounts.by_key(sha256)
    if account is None:
        await services.accounts.refreshed()
        account = services.accounts.by_key(sha256)
    if account is None:
        raise Unauthenticated("the API key is unknown")
    return account


def _authorize(rule: Rule, caller: Caller, given: Given, services: Services) -> None:
    """Raises NotAllowed when the role may not, or a cookie alone would change something."""
    if rule.roles is None or caller.account.role not in rule.roles:
        raise NotAllowed(f"the role {caller.account.role} may not do this")
    if rule.safe or given.in_headers or rule.csrf_in_form or caller.session_id is None:
        return
    sent = None if given.csrf is None else given.csrf.decode("latin-1")
    if not services.signer.csrf_matches(caller.session_id, sent):
        raise NotAllowed("X-CSRF-Token is missing or not of this session")


def _unknown(match: Match | None, lang: str) -> Response:
    if match is None:
        return problem(404, lang=lang)
    return problem(405, lang=lang, headers={"Allow": ", ".join(sorted(match.methods))})


def _wants_page(scope: Scope, rule: Rule) -> bool:
    accepts = b",".join(value for name, value in scope["headers"] if name == b"accept")
    return rule.page and rule.safe and b"text/html" in accepts


def _to_login(scope: Scope) -> Response:
    target = quote(scope["path"], safe="/")
    if scope.get("query_string"):
        target += "?" + scope["query_string"].decode("latin-1")
    return RedirectResponse(f"/login?next={quote(target, safe='/')}", status_code=303)


def _cookies(header: bytes, name: bytes) -> list[bytes]:
    found = []
    for part in header.split(b";"):
        key, _, value = part.strip().partition(b"=")
        if key == name:
            found.append(value.strip(b'"'))
    return found


# --- the body ---------------------------------------------------------------------------------


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _too_large(scope: Scope, rule: Rule) -> Response | None:
    for name, value in scope["headers"]:
        if name == b"content-length" and (
            not value.isdigit() or len(value) > 15 or int(value) > rule.body_bytes_max
        ):
            return problem(413, _limit(rule.body_bytes_max), lang=language_of(scope))
    return None


def _limit(size: int) -> str:
    return f"the body is larger than {size} bytes"


def _limited(receive: Receive, bytes_max: int) -> Receive:
    """`receive`, which raises 413 past `bytes_max` and 408 when the body pauses too long."""
    seen = 0
    complete = False

    async def counted() -> MutableMapping[str, Any]:
        nonlocal seen, complete
        if complete:  # what is awaited now is the end of the connection
            return await receive()
        try:
            async with asyncio.timeout(BODY_PAUSE_S):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "the body stopped arriving") from None
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if seen > bytes_max:
                raise HTTPException(413, _limit(bytes_max), headers={"Connection": "close"})
        return message

    return counted
