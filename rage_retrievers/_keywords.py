"""Names nobody reads, and the known ones that they resemble."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from ._secrets import secrets_in_use


def unknown_keyword(name: str, known: Mapping[str, object] | Sequence[str]) -> TypeError:
    """The error for a keyword nobody reads: silently dropping `metadataFilters` would return unfiltered data."""
    name = str(name)  # the key of a mapping may be anything
    near = nearest(name, known, 0.8) or _meant(name, known)
    told = repr(name) if near or _is_a_name(name, known) else "(not shown, it could be a secret)"
    near = near or nearest(name, known, 0.5)
    hint = f"; did you mean {near!r}?" if near else f"; known are {', '.join(sorted(known))}."
    return TypeError(f"unknown keyword {told}{hint}")


def _is_a_name(name: str, known: Iterable[str]) -> bool:
    """Whether it can be a misspelt name; anything else may be a token, given in the wrong place."""
    return name.isidentifier() and len(name) <= max(map(len, known)) and secrets_in_use.hide(name) == name


# What such things are called elsewhere, also in this package, where by its letters another name would be nearer.
_ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("k", "top_k", "similarity_top_k", "limit"), ("k", "similarity_top_k", "num_results")),
    **dict.fromkeys(("filter", "filters", "where", "search_kwargs"), ("filters", "metadata_filters")),
    **dict.fromkeys(("mode", "search_type", "text_fields", "match_type", "text_boost"), ("mode", "advanced_query")),
    **dict.fromkeys(("retry", "retries", "max_retries", "cache"), ("resilience",)),
}


def _meant(name: str, known: Iterable[str]) -> str | None:
    """The known name of what is called so elsewhere."""
    here = set(known)
    return next((one for one in _ELSEWHERE.get(name, ()) if one in here), None)


def nearest(name: str, known: Iterable[str], cutoff: float) -> str | None:
    """The known name that this one, written in whatever case, resembles by at least `cutoff` of 1."""
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).replace("-", "_")
    return next(iter(difflib.get_close_matches(snake, list(known), n=1, cutoff=cutoff)), None)
