"""The city's identity provider as this service talks to it: discovery, keys, code for ID token.

Everything the provider says is checked here before anyone is let in: the issuer by exact text, the
ID token's signature by the provider's public keys with asymmetric algorithms only, audience,
expiry, nonce, authorized party and the access token's hash. Nothing is redirected elsewhere.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import structlog
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc.errors import JoseError

from api.sign_on import REFUSED
from data.sign_on_settings import SignOnSettings, guarded
from geo.errors import NotAllowed, Unavailable

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"})
ANSWER_BYTES_MAX = 256 * 1024
TIMEOUT_S = 5.0
METADATA_HOLDS_S = 3600.0
KEYS_APART_S = 30.0
LEEWAY_S = 30
CLAIMS = ["iss", "sub", "aud", "exp", "iat", "nonce"]

log = structlog.get_logger("yutu.sign_on")


@dataclass(frozen=True, slots=True)
class Metadata:
    """What of the provider's discovery document is used."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    basic: bool


class IdentityProvider:
    """One provider; safe to use from several threads."""

    def __init__(self, settings: SignOnSettings) -> None:
        if settings.issuer is None:
            raise RuntimeError("no issuer is set")
        self.issuer = settings.issuer
        self._settings = settings
        self._lock = threading.Lock()
        self._metadata: Metadata | None = None
        self._metadata_at = float("-inf")
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._keys_at = float("-inf")

    def authorization_url(self, redirect_url: str, state: str, nonce: str, verifier: str) -> str:
        """Where to send the browser. Raises Unavailable when the provider does not answer."""
        return str(
            prepare_grant_uri(
                self._discovered().authorization_endpoint,
                self._settings.client_id,
                "code",
                redirect_uri=redirect_url,
                scope=self._settings.scopes,
                state=state,
                nonce=nonce,
                code_challenge=create_s256_code_challenge(verifier),
                code_challenge_method="S256",
            )
        )

    def claims(self, code: str, redirect_url: str, nonce: str, verifier: str) -> dict[str, Any]:
        """The checked claims of the ID token a code is exchanged for.

        Raises NotAllowed for anything that does not hold, Unavailable when nobody answers.
        """
        found = self._discovered()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_url,
            "code_verifier": verifier,
        }
        secret = self._settings.secret
        basic = None
        if secret is not None and found.basic:
            basic = httpx.BasicAuth(self._settings.client_id, secret)
        else:
            form["client_id"] = self._settings.client_id
            if secret is not None:
                form["client_secret"] = secret
        answer = self._ask("POST", found.token_endpoint, data=form, auth=basic)
        token = answer.get("id_token")
        if not isinstance(token, str):
            _note("no ID token")
            raise NotAllowed(REFUSED)
        return self._checked(token, nonce, answer.get("access_token"))

    def _checked(self, token: str, nonce: str, access_token: Any) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if algorithm not in ALGORITHMS:
                _note("algorithm")
                raise NotAllowed(REFUSED)
            key = self._key(header.get("kid"))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._settings.client_id,
                issuer=self.issuer,
                leeway=LEEWAY_S,
                options={"require": CLAIMS},
            )
            checked = CodeIDToken(
                claims,
                header,
                params={
                    "nonce": nonce,
                    "client_id": self._settings.client_id,
                    "access_token": access_token,
                },
            )
            checked.validate(leeway=LEEWAY_S)
        except (jwt.PyJWTError, JoseError, ValueError, TypeError) as error:
            _note(type(error).__name__)
            raise NotAllowed(REFUSED) from None
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
            _note("subject")
            raise NotAllowed(REFUSED)
        return claims

    def _key(self, kid: Any) -> jwt.PyJWK:
        """The public key of that id; for one not known the provider is asked, not too often."""
        if kid is not None and not isinstance(kid, str):
            _note("kid")
            raise NotAllowed(REFUSED)
        with self._lock:
            if kid not in self._keys and time.monotonic() - self._keys_at > KEYS_APART_S:
                self._keys = self._read_keys()
                self._keys_at = time.monotonic()
            found = self._keys.get(kid)
            if found is None and kid is None and len(self._keys) == 1:
                found = next(iter(self._keys.values()))
        if found is None:
            _note("unknown key")
            raise NotAllowed(REFUSED)
        return found

    def _read_keys(self) -> dict[str | None, jwt.PyJWK]:
        listed = self._ask("GET", self._discovered_by(self._metadata).jwks_uri).get("keys")
        keys: dict[str | None, jwt.PyJWK] = {}
        for one in listed if isinstance(listed, list) else []:
            if not isinstance(one, dict) or one.get("kty") not in {"RSA", "EC"}:
                continue  # a shared secret is never a provider's key
            if one.get("use", "sig") != "sig":
                continue
            try:
                keys[one.get("kid")] = jwt.PyJWK({k: v for k, v in one.items() if k != "d"})
            except (jwt.PyJWTError, ValueError, TypeError):
                continue
        return keys

    def _discovered(self) -> Metadata:
        with self._lock:
            known = self._metadata
            if known is not None and time.monotonic() - self._metadata_at < METADATA_HOLDS_S:
                return known
        found = self._discover()
        with self._lock:
            self._metadata, self._metadata_at = found, time.monotonic()
        return found

    @staticmethod
    def _discovered_by(known: Metadata | None) -> Metadata:
        if known is None:
            raise RuntimeError("keys are read after the discovery")
        return known

    def _discover(self) -> Metadata:
        said = self._ask("GET", f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if said.get("issuer") != self.issuer:
            log.error("the identity provider says it is another issuer")
            raise Unavailable("the identity provider is not the one that was set", 60)
        places = [said.get(name) for name in ("authorization_endpoint", "token_endpoint")]
        places.append(said.get("jwks_uri"))
        if not all(isinstance(place, str) and guarded(place) for place in places):
            log.error("the identity provider names places that are not guarded")
            raise Unavailable("the identity provider is not the one that was set", 60)
        methods = said.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        basic = isinstance(methods, list) and "client_secret_basic" in methods
        return Metadata(str(places[0]), str(places[1]), str(places[2]), basic)

    def _ask(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        """The JSON object at `url`, without redirects and without a proxy of the environment."""
        try:
            with (
                httpx.Client(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False) as client,
                client.stream(method, url, headers={"Accept": "application/json"}, **more) as sent,
            ):
                body = b""
                for part in sent.iter_bytes():
                    body += part
                    if len(body) > ANSWER_BYTES_MAX:
                        _note("too long an answer")
                        raise NotAllowed(REFUSED)
                if 400 <= sent.status_code < 500:
                    _note(f"status {sent.status_code}")
                    raise NotAllowed(REFUSED)
                if sent.status_code != 200:
                    raise Unavailable("the identity provider does not answer; try again", 5)
                said = httpx.Response(200, content=body).json()
        except httpx.HTTPError:
            raise Unavailable("the identity provider does not answer; try again", 5) from None
        except ValueError:
            _note("no JSON")
            raise NotAllowed(REFUSED) from None
        if not isinstance(said, dict):
            _note("no JSON object")
            raise NotAllowed(REFUSED)
        return said


def _note(why: str) -> None:
    """Why somebody is refused is for the log; the browser is told only that."""
    log.warning("sign-on refused", why=why)
