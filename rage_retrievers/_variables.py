"""Variables of the environment and of `.env`: where one is set, which are misspelt, and what a setting allows."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from dotenv import dotenv_values
from pydantic import SecretStr
from pydantic.fields import FieldInfo

ENV_FILE = ".env"
_PREFIXES = ("RAGE_", "VECTORIZE_")
_READ_ELSEWHERE = ("RAGE_CACHE_DIR", "RAGE_TEST_IR")
"""Switches that are no settings: where the embedded pipeline keeps its index, and one of the tests."""

Variables = Mapping[str, Sequence[str]]
"""The variables of each setting, the one to document first."""


def written() -> dict[str, str]:
    """The variables of `.env` in the working directory; an empty one counts as not set."""
    file = Path(ENV_FILE)
    return {name: value for name, value in dotenv_values(file).items() if value} if file.is_file() else {}


def set_by(variables: Sequence[str], source: Mapping[str, str]) -> tuple[str, str] | None:
    """(variable, value) of the first that the source sets, whatever its case."""
    folded = {name.upper(): value for name, value in source.items() if value}
    return next(((name, folded[name]) for name in variables if name in folded), None)


def misspelt(names: Iterable[str], variables: Variables) -> list[tuple[str, str]]:
    """(variable, nearest one of ours) for each name that looks like ours and is none."""
    known = [name for ours in variables.values() for name in ours]
    found = ((name, _nearest(name.upper(), known, variables)) for name in names if name.upper().startswith(_PREFIXES))
    return [(name, near) for name, near in found if near is not None]


def _nearest(name: str, known: Sequence[str], variables: Variables) -> str | None:
    """Other products use VECTORIZE_ too, so such a name needs a closer resemblance than a RAGE_ one."""
    if name in known or name in _READ_ELSEWHERE:
        return None
    prefix, _, rest = name.partition("_")
    if rest.lower() in variables:  # the setting's own name, such as RAGE_ORGANIZATION
        return variables[rest.lower()][0]
    ours = prefix == "RAGE"
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8 if ours else 0.9)
    if close:
        return close[0]
    words = rest.split("_")
    alike = [one for one in known if set(words) <= set(one.split("_")[1:])]  # RAGE_PROFILE, VECTORIZE_KEY
    if not alike and ours:
        alike = [one for one in known if all(_resembles(word, one.split("_")[1:]) for word in words)]  # RAGE_RETRIES
    return min(alike, key=lambda one: not one.startswith(prefix), default=None)


def _resembles(word: str, words: Sequence[str]) -> bool:
    return len(word) > 3 and bool(difflib.get_close_matches(word, words, n=1, cutoff=0.65))


def shortly(value: object) -> str:
    """The value; of a long one its beginning, as it may be a token in the wrong variable."""
    text = value if isinstance(value, str) else None
    return repr(value) if text is None or len(text) <= 24 else repr(f"{text[:12]}…")


def allowed(field: FieldInfo) -> str:
    """What a setting may be, in a reader's words: `number > 0`, `true or false`, the names it is one of."""
    return _bounded(_kind(field.annotation), field.metadata)


def is_secret(field: FieldInfo) -> bool:
    """Whether the setting's value is never to be shown."""
    return _holds_secret(field.annotation)


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_holds_secret, get_args(annotation)))


def _kind(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(map(str, get_args(annotation)))
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(part) for part in get_args(annotation) if part is not type(None))
    if origin is Annotated:
        first, *rules = get_args(annotation)
        return _bounded(_kind(first), rules)
    names = {bool: "true or false", int: "whole number", float: "number", str: "text", SecretStr: "secret text"}
    return names[annotation]


def _bounded(kind: str, rules: Iterable[Any]) -> str:
    bounds = " and ".join(_bounds(rules))
    return f"{kind} {bounds}" if bounds else kind


def _bounds(rules: Iterable[Any]) -> list[str]:
    found: list[str] = []
    for rule in rules:
        if isinstance(rule, FieldInfo):
            found += _bounds(rule.metadata)
        for name, symbol in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            limit = getattr(rule, name, None)
            if isinstance(limit, int | float):
                found.append(f"{symbol} {limit:g}")
        if isinstance(least := getattr(rule, "min_length", None), int):
            found.append(f"of at least {least} characters")
    return found
