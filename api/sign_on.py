"""The part of a process that knows the identity provider, if one is set.

What it takes to talk to one is loaded only then: it would lengthen every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data.sign_on_settings import SignOnSettings

if TYPE_CHECKING:
    from api.identity_provider import IdentityProvider

REFUSED = "the identity provider's answer does not hold; sign in again"


class SignOn:
    """A background part of the services: settings, and the provider or None."""

    def __init__(self, settings: SignOnSettings) -> None:
        self.settings = settings
        self.provider: IdentityProvider | None = None
        if settings.issuer is not None:
            from api.identity_provider import IdentityProvider

            self.provider = IdentityProvider(settings)

    def start(self) -> None:
        """Nothing: the provider is asked when someone signs in."""

    def stop(self) -> None:
        """Nothing runs."""
