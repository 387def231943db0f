"""Signing in by the city's accounts: which identity provider, and what its groups may do here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from data.settings import Settings, _read_secret_file

Needed = TypeVar("Needed")

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Grant(BaseModel):
    """What a group of the provider may do here: a role in districts, for operators."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["viewer", "field", "utility", "planner", "commander", "admin"]
    districts: tuple[str, ...] = ("*",)
    operators: tuple[str, ...] = ("*",)

    @field_validator("districts", "operators")
    @classmethod
    def _some(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        if not codes or any(not code for code in codes) or ("*" in codes and len(codes) > 1):
            raise ValueError("is * alone, or some codes")
        return codes


class SignOnSettings(Settings):
    """OpenID Connect; off without `YUTU_OIDC_ISSUER`.

    `groups` says, in the order of trying, what each group of the provider may do; whoever is in
    none is refused. `redirect_url` is the address of `/login/oidc/callback` as the provider knows
    it, taken from the request when not set. The secret may stand in a file.
    """

    model_config = SettingsConfigDict(env_prefix="YUTU_OIDC_")

    issuer: str | None = None
    client_id: str = Field("", validate_default=True)
    client_secret: SecretStr | None = None
    client_secret_file: Path | None = None
    redirect_url: str | None = None
    scopes: str = "openid profile"
    username_claim: str = "preferred_username"
    groups_claim: str = "groups"
    groups: dict[str, Grant] = Field(default={}, validate_default=True)

    @field_validator("issuer", "redirect_url")
    @classmethod
    def _guarded(cls, url: str | None) -> str | None:
        if url is not None and not guarded(url):
            raise ValueError("begins with https://, or http:// on this machine")
        return url

    @field_validator("scopes")
    @classmethod
    def _openid(cls, scopes: str) -> str:
        if "openid" not in scopes.split():
            raise ValueError("needs openid among them")
        return scopes

    @field_validator("client_id", "groups")
    @classmethod
    def _needed(cls, value: Needed, info: ValidationInfo) -> Needed:
        if not value and info.data.get("issuer") is not None:
            raise ValueError("is needed with YUTU_OIDC_ISSUER")
        return value

    @property
    def secret(self) -> str | None:
        """The client's secret; None for a public client, which PKCE alone protects."""
        if self.client_secret is not None:
            return self.client_secret.get_secret_value()
        if self.client_secret_file is not None:
            return _read_secret_file("YUTU_OIDC_CLIENT_SECRET_FILE", self.client_secret_file)
        return None

    def grant(self, groups: Iterable[str]) -> Grant | None:
        """What the first group of the setting that someone is in may do; None: in none of them."""
        held = set(groups)
        return next((grant for name, grant in self.groups.items() if name in held), None)


def guarded(url: str) -> bool:
    """Whether nobody on the way can read or change what goes to `url`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if not parts.hostname or parts.username or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
