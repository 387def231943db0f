"""Tokens and sessions: signed with one key, one algorithm, and dated by the account's epoch.

A bearer token and a session cookie are both JWTs, told apart by their audience, so that neither can
stand in for the other. The CSRF token is derived from the session's id, so it needs no storage.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Any

import jwt

from data.accounts import Account
from geo.errors import Fault, InvalidInput

ALGORITHM = "HS256"
ISSUER = "yutu"
TOKEN_AUDIENCE = "yutu-api"  # noqa: S105 - an audience, not a secret
SESSION_AUDIENCE = "yutu-session"
CLAIMS = ["exp", "iat", "iss", "aud", "sub", "jti", "epoch"]
SECRET_BYTES_MIN = 32
TOKEN_CHARACTERS_MAX = 2048


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says: whose it is, of which epoch, and its own id."""

    username: str
    epoch: int
    id: str
    expires_at: int


class Signer:
    """Issues and reads tokens with one secret. Raises InvalidInput for one under 32 bytes."""

    def __init__(self, secret: str) -> None:
        self._key = secret.encode()
        if len(self._key) < SECRET_BYTES_MIN:
            remedy = "is shorter than 32 bytes; make one with: openssl rand -hex 32"
            raise InvalidInput([Fault(remedy, field="secret")])
        self._csrf_key = hmac.digest(self._key, b"yutu csrf", "sha256")

    def issue(self, account: Account, audience: str, lifetime_s: int) -> tuple[str, Claims]:
        """A token of `account`, valid for `lifetime_s` seconds from now."""
        now = int(time.time())
        claims = Claims(account.username, account.epoch, secrets.token_hex(16), now + lifetime_s)
        payload = {
            "iss": ISSUER,
            "aud": audience,
            "sub": claims.username,
            "epoch": claims.epoch,
            "jti": claims.id,
            "iat": now,
            "exp": claims.expires_at,
        }
        return jwt.encode(payload, self._key, algorithm=ALGORITHM), claims

    def read(self, token: str, audience: str) -> Claims | None:
        """The claims of a token that is ours, unexpired and for `audience`; else None."""
        if len(token) > TOKEN_CHARACTERS_MAX:
            return None
        try:
            payload: dict[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=audience,
                issuer=ISSUER,
                options={"require": CLAIMS},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        username, epoch, token_id = payload["sub"], payload["epoch"], payload["jti"]
        if not isinstance(username, str) or type(epoch) is not int or not isinstance(token_id, str):
            return None
        return Claims(username, epoch, token_id, int(payload["exp"]))

    def seal(self, values: dict[str, str], audience: str, lifetime_s: int) -> str:
        """Values for a browser to keep and bring back unchanged within `lifetime_s` seconds."""
        payload = {**values, "iss": ISSUER, "aud": audience, "exp": int(time.time()) + lifetime_s}
        return jwt.encode(payload, self._key, algorithm=ALGORITHM)

    def unseal(self, token: str, audience: str) -> dict[str, Any] | None:
        """What was sealed, with `exp`; None for anything not sealed here, or too old."""
        if len(token) > 2 * TOKEN_CHARACTERS_MAX:
            return None
        try:
            found: dict[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=audience,
                issuer=ISSUER,
                options={"require": ["exp", "iss", "aud"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        return found

    def csrf(self, session_id: str) -> str:
        """The CSRF token bound to one session."""
        return hmac.new(self._csrf_key, session_id.encode(), hashlib.sha256).hexdigest()

    def csrf_matches(self, session_id: str, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(
            self.csrf(session_id).encode(), given.encode("utf-8", "replace")
        )
