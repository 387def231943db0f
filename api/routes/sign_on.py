"""Signing in by the city's accounts: to the identity provider and back (OpenID Connect).

Authorization code with PKCE. State, nonce and verifier wait in a cookie of the browser that began,
signed and short-lived; a state is taken once, by whichever process it comes back to.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Query, Request, Response
from fastapi.responses import RedirectResponse

from api.credentials import SESSION_COOKIE
from api.deps import Services, ServicesDep
from api.routes.session import safe_path, set_cookie
from api.routing import make_router
from api.security import SESSION_AUDIENCE
from api.sign_on import REFUSED, SignOn
from data.ended_sessions import end_session
from data.identities import Identity, end_sign_on, sign_on
from data.sign_on_settings import SignOnSettings
from geo.errors import NotAllowed, NotFound

if TYPE_CHECKING:
    from api.identity_provider import IdentityProvider

CALLBACK = "/login/oidc/callback"
WAITING_COOKIE = "yutu_sign_on"
WAITING_AUDIENCE = "yutu-sign-on"
WAITING_S = 600

router = make_router("session")


@router.get("/login/oidc", summary="Sign in by the city's accounts", include_in_schema=False)
def begin(
    request: Request,
    services: ServicesDep,
    next: Annotated[str | None, Query(max_length=2000)] = None,
) -> Response:
    """Sends the browser to the identity provider. 404 where none is set."""
    _, provider = _set(services)
    waiting = {
        "state": secrets.token_urlsafe(32),
        "nonce": secrets.token_urlsafe(32),
        "verifier": secrets.token_urlsafe(48),
        "next": safe_path(next),
    }
    url = provider.authorization_url(
        _redirect_url(request, services), waiting["state"], waiting["nonce"], waiting["verifier"]
    )
    sealed = services.signer.seal(waiting, WAITING_AUDIENCE, WAITING_S)
    answer = RedirectResponse(url, status_code=303)
    set_cookie(request, answer, WAITING_COOKIE, sealed, WAITING_S, path="/login/oidc")
    return answer


@router.get(CALLBACK, summary="Back from the identity provider", include_in_schema=False)
def finish(
    request: Request,
    services: ServicesDep,
    code: Annotated[str | None, Query(max_length=4096)] = None,
    state: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Sets the session cookie of the account that the provider's groups give."""
    settings, provider = _set(services)
    waiting = services.signer.unseal(request.cookies.get(WAITING_COOKIE, ""), WAITING_AUDIENCE)
    if waiting is None or code is None or state is None:
        raise NotAllowed(REFUSED)
    if not hmac.compare_digest(str(waiting["state"]).encode(), state.encode()):
        raise NotAllowed(REFUSED)
    with services.engine.begin() as connection:
        fresh = end_session(connection, f"state:{waiting['state']}", int(waiting["exp"]))
    if not fresh:
        raise NotAllowed(REFUSED)
    claims = provider.claims(
        code, _redirect_url(request, services), str(waiting["nonce"]), str(waiting["verifier"])
    )
    who = Identity(provider.issuer, claims["sub"], str(claims.get(settings.username_claim, "")))
    grant = settings.grant(_groups(claims.get(settings.groups_claim)))
    if grant is None:
        end_sign_on(services.engine, who)
        raise NotAllowed("no group of yours may use this service")
    account = sign_on(services.engine, who, grant.role, grant.districts, grant.operators)
    if account is None:
        raise NotAllowed("the account is locked")
    lifetime_s = services.configuration.security.session_hours * 3600
    issued, _ = services.signer.issue(account, SESSION_AUDIENCE, lifetime_s)
    answer = RedirectResponse(safe_path(str(waiting["next"])), status_code=303)
    set_cookie(request, answer, SESSION_COOKIE, issued, lifetime_s)
    answer.delete_cookie(WAITING_COOKIE, path="/login/oidc")
    return answer


def _set(services: Services) -> tuple[SignOnSettings, IdentityProvider]:
    part = services.get(SignOn)
    if part.provider is None:
        raise NotFound("no identity provider is set")
    return part.settings, part.provider


def _redirect_url(request: Request, services: Services) -> str:
    known = services.get(SignOn).settings.redirect_url
    return known or f"{str(request.base_url).rstrip('/')}{CALLBACK}"


def _groups(said: Any) -> list[str]:
    if isinstance(said, str):
        return [said]
    return [one for one in said if isinstance(one, str)] if isinstance(said, list) else []
