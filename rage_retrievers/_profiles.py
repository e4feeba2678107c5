"""The profiles: named sets of values for settings, as data."""

from __future__ import annotations

from typing import Any

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
