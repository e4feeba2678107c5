"""Telling the process of a secret value, so that it is shown nowhere."""

from __future__ import annotations

from .._checks import typed
from .._secrets import REDACTED, Secrets, secrets_in_use
from ..errors import ConfigurationError

__all__ = ["REDACTED", "Secrets", "register_secret"]


def register_secret(secret: str | None) -> None:
    """Register a credential with the process's own list; clients do so with every token they send.

    Raises ConfigurationError for what is no text, which would never be found.
    """
    if secret is not None and not isinstance(secret, str):
        raise ConfigurationError(f"A secret is a text, not {typed(secret)}; of a SecretStr give get_secret_value().")
    secrets_in_use.register(secret)
