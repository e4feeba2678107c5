"""What a setting may be: types with bounds, from which messages and documentation tell what is allowed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field


def in_case(case: str) -> BeforeValidator:
    """Names are read in either case, with or without white space around them."""
    return BeforeValidator(lambda value: getattr(value.strip(), case)() if isinstance(value, str) else value)


Environment = Annotated[Literal["prod", "staging", "dev", "local"], in_case("lower")]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], in_case("upper")]
Style = Annotated[Literal["standard", "detailed", "compact"], in_case("lower")]
Fallback = Annotated[Literal["empty", "stale", "stale-or-empty"], in_case("lower")]
Profiles = Literal["development", "staging", "production", "performance", "security"]
Share = Annotated[float, Field(gt=0, le=1)]
ShareBelowOne = Annotated[float, Field(gt=0, lt=1)]
FromOne = Annotated[float, Field(ge=1, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Number = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
MiB = Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]
Score = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
