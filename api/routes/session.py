"""Signing in and out: a bearer token for programs, a session cookie for people."""

from __future__ import annotations

import hmac
import secrets
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from prometheus_client import Counter

from api.answers import json_answer
from api.audit_notes import address_of, note_sign_in_refused
from api.credentials import CHALLENGE, SESSION_COOKIE
from api.deps import Caller, Csrf, LangDep, Services, ServicesDep, services_of
from api.problems import problem
from api.routing import make_router
from api.security import SESSION_AUDIENCE, TOKEN_AUDIENCE
from api.sign_on import SignOn
from data.accounts import Account, authenticate
from data.audit import Origin, record
from data.ended_sessions import end_session
from data.sign_in_limit import Attempt
from geo.errors import NotAllowed, TooMany
from maps.login import local_path, render_login
from maps.page import Page

LOGIN_COOKIE = "yutu_login"
LOGIN_COOKIE_S = 3600
WRONG = {"zh": "用户名或密码不正确", "en": "Wrong user name or password"}
HELD_OFF = {
    "zh": "登录失败次数过多，请在 {} 秒后重试",
    "en": "Too many failed attempts; try again in {} seconds",
}
STALE = {"zh": "页面已过期，请重试", "en": "The page has expired; try again"}

router = make_router("session")

#: With a password; by the city's identity provider nobody guesses here.
SIGN_INS = Counter("yutu_sign_ins_total", "Attempts to sign in with a password.", ["outcome"])

Username = Annotated[str, Form(max_length=200)]
Password = Annotated[str, Form(max_length=2000)]


@router.post("/v1/token", summary="A bearer token for a user name and password")
def token(
    request: Request, services: ServicesDep, lang: LangDep, username: Username, password: Password
) -> Response:
    """Form fields `username` and `password`. The token holds for `expires_in` seconds. After
    several failures 429 says how long to wait."""
    account = _recognise(request, services, username, password)
    if account is None:
        return problem(401, WRONG[lang], lang=lang, headers=CHALLENGE)
    lifetime_s = services.configuration.security.token_minutes * 60
    issued, _ = services.signer.issue(account, TOKEN_AUDIENCE, lifetime_s)
    return json_answer({"access_token": issued, "token_type": "bearer", "expires_in": lifetime_s})


@router.get("/v1/session", summary="Who is asking")
def session(account: Caller, csrf: Csrf) -> Response:
    """The account, and for a session cookie the CSRF token its writes must send."""
    return json_answer(
        {
            "username": account.username,
            "role": account.role,
            "districts": account.districts,
            "operators": account.operators,
            "csrf": csrf or None,
        }
    )


@router.get("/login", summary="The sign-in page")
def login_page(
    request: Request, lang: LangDep, next: Annotated[str | None, Query(max_length=2000)] = None
) -> Response:
    return _login_page(request, lang, None, next)


@router.post("/login", summary="Sign in with the page's form")
def login(
    request: Request,
    services: ServicesDep,
    lang: LangDep,
    username: Username,
    password: Password,
    csrf: Annotated[str, Form(max_length=200)] = "",
    next: Annotated[str | None, Form(max_length=2000)] = None,
) -> Response:
    """Sets the session cookie and goes on to `next`, a path of this server."""
    expected = request.cookies.get(LOGIN_COOKIE, "")
    if not expected or not hmac.compare_digest(expected.encode(), csrf.encode()):
        return _login_page(request, lang, STALE[lang], next, status=403)
    try:
        account = _recognise(request, services, username, password)
    except TooMany as error:
        held_off = HELD_OFF[lang].format(error.retry_after_s)
        shown = _login_page(request, lang, held_off, next, status=429)
        shown.headers["Retry-After"] = str(error.retry_after_s)
        return shown
    if account is None:
        return _login_page(request, lang, WRONG[lang], next, status=401)
    lifetime_s = services.configuration.security.session_hours * 3600
    issued, _ = services.signer.issue(account, SESSION_AUDIENCE, lifetime_s)
    answer = RedirectResponse(safe_path(next), status_code=303)
    set_cookie(request, answer, SESSION_COOKIE, issued, lifetime_s)
    answer.delete_cookie(LOGIN_COOKIE, path="/login")
    return answer


@router.post("/logout", summary="End this session")
def logout(
    request: Request,
    services: ServicesDep,
    account: Caller,
    csrf: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """Takes the cookie back and ends the session, whoever else has the cookie. Field `csrf`, or the
    header `X-CSRF-Token`, must be the session's."""
    state = request.scope["state"]
    session_id = state.get("session_id")
    sent = csrf or request.headers.get("x-csrf-token")
    if session_id is not None and not services.signer.csrf_matches(session_id, sent):
        raise NotAllowed("the CSRF token is missing or not of this session")
    if session_id is not None:
        with services.engine.begin() as connection:
            if end_session(connection, session_id, state["session_ends_at"]):
                name = account.username
                record(connection, "sign_out", account=name, subject=f"account:{name}")
    answer = RedirectResponse("/login", status_code=303)
    answer.delete_cookie(SESSION_COOKIE, path="/")
    return answer


def _recognise(
    request: Request, services: Services, username: str, password: str
) -> Account | None:
    """The account of that name and password. Raises TooMany after too many failures."""
    address = address_of(request.scope)
    attempt = Attempt.of(username, address)
    try:
        attempt.begin(services.engine)
    except TooMany:
        SIGN_INS.labels("held off").inc()
        note_sign_in_refused(services, username, address, "held off")
        raise
    account = authenticate(services.engine, username, password)
    if account is not None:
        attempt.succeeded(services.engine)
        with services.engine.begin() as connection:  # before anything is handed out
            record(
                connection,
                "sign_in",
                account=account.username,
                subject=f"account:{account.username}",
                detail={"for": request.url.path},
                by=Origin(address, "password"),
            )
    else:
        note_sign_in_refused(services, username, address, "wrong, or locked")
    SIGN_INS.labels("refused" if account is None else "accepted").inc()
    return account


def safe_path(target: str | None) -> str:
    """`target` if a browser stays on this server with it, else `/`."""
    path = local_path(target)
    parts = urlsplit(path)
    return path if not parts.scheme and not parts.netloc else "/"


def _login_page(
    request: Request, lang: LangDep, error: str | None, target: str | None, *, status: int = 200
) -> Response:
    csrf = request.cookies.get(LOGIN_COOKIE) or secrets.token_urlsafe(24)
    set_up = services_of(request).get(SignOn).provider is not None
    page: Page = render_login(lang, error, safe_path(target), csrf, sign_on=set_up)
    answer = Response(
        page.html,
        status,
        headers={"Content-Security-Policy": page.csp},
        media_type="text/html; charset=utf-8",
    )
    set_cookie(request, answer, LOGIN_COOKIE, csrf, LOGIN_COOKIE_S, path="/login")
    return answer


def set_cookie(
    request: Request, answer: Response, name: str, value: str, age_s: int, *, path: str = "/"
) -> None:
    """A cookie no script reads and no other site's form sends; by HTTPS only, where there is it."""
    answer.set_cookie(
        name,
        value,
        max_age=age_s,
        path=path,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
