"""The profiles: named sets of values for settings, as data, and as the last source that settings are read from."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

PROFILES: dict[str, dict[str, Any]] = {
    "development": {"debug": True, "log_level": "DEBUG", "timeout_ms": 30_000, "enable_metrics": True},
    "staging": {"log_level": "INFO", "enable_metrics": True, "enable_audit_log": True},
    "production": {"log_level": "WARNING", "enable_metrics": True, "enable_audit_log": True, "enable_caching": True},
    "performance": {
        "log_level": "ERROR",
        "timeout_ms": 3_000,
        "retry_attempts": 1,
        "enable_caching": True,
        "cache_ttl": 900,
        "max_in_flight": 256,
    },
    "security": {
        "log_level": "INFO",
        "enable_audit_log": True,
        "enable_caching": False,
        "debug": False,
        "max_response_mib": 4,
    },
}
"""What each profile sets; whatever is given elsewhere wins over it."""


class Profile(PydanticBaseSettingsSource):
    """The values of the profile that the sources before this one name."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        field = self.settings_cls.model_fields["config_profile"]
        names = ("config_profile", *aliases(field))
        chosen = next((self.current_state[name] for name in names if name in self.current_state), None)
        values = PROFILES.get(chosen.strip().lower(), {}) if isinstance(chosen, str) else {}
        # Under the variable's name, as the other sources have it, so that theirs win.
        return {aliases(self.settings_cls.model_fields[name])[0]: value for name, value in values.items()}


def aliases(field: FieldInfo) -> tuple[str, ...]:
    choices = field.validation_alias
    assert isinstance(choices, AliasChoices)  # every setting is made by _variable
    return tuple(str(name) for name in choices.choices)
