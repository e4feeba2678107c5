"""What a token says of itself, read without a network and without a key."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.tokens import Claims, judge, read_claims

NOW = 1_700_000_000.0


def jwt(header: Any = None, **claims: Any) -> str:
    """A token with these claims and a signature of nobody's."""
    parts = [{"alg": "RS256", "typ": "JWT"} if header is None else header, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


def test_a_valid_token_has_no_problem_and_says_until_when() -> None:
    """A token of this organization that is not expired is fine; its end is told."""
    verdict = judge(jwt(aud="org-1", exp=NOW + 86_400), organization="org-1", now=NOW)
    assert verdict.problem is None
    assert "valid until 2023-11-15" in verdict.message
    assert judge(jwt(aud="org-1"), organization="org-1", now=NOW).message.endswith("has no end.")


@pytest.mark.parametrize(
    "token", ["", "abc", "a.b", "a.b.c", "..", "a.b.c.d", jwt(header={}), jwt(header=[1]), "é.é.é"]
)
def test_what_is_no_jwt_is_told(token: str) -> None:
    """A text that is no JWT is told apart from one that is expired."""
    assert judge(token, now=NOW).problem == "not a JWT"


def test_a_pasted_bearer_is_told() -> None:
    """The word Bearer in front of a token is a mistake of its own."""
    assert "leave that word out" in judge(f"Bearer {jwt(aud='o')}", now=NOW).message


def test_an_expired_token_is_told_with_its_day() -> None:
    """From the second of `exp` on the token is expired, whatever its organization."""
    verdict = judge(jwt(aud="org-2", exp=NOW), organization="org-1", now=NOW)
    assert verdict.problem == "expired"
    assert "2023-11-14" in verdict.message
    assert judge(jwt(exp=NOW + 1), now=NOW).problem is None


def test_a_token_of_the_future_is_told() -> None:
    """`nbf` ahead of the clock is told."""
    assert judge(jwt(nbf=NOW + 60), now=NOW).problem == "not valid yet"


def test_a_token_of_another_organization_is_told_with_both_ids() -> None:
    """`aud` names the organization; a list of them admits each."""
    verdict = judge(jwt(aud="org-2"), organization="org-1", now=NOW)
    assert verdict.problem == "another organization"
    assert "org-2" in verdict.message
    assert "org-1" in verdict.message
    assert judge(jwt(aud=["org-2", "org-1"]), organization="org-1", now=NOW).problem is None
    assert judge(jwt(aud="org-2"), organization=None, now=NOW).problem is None
    assert judge(jwt(), organization="org-1", now=NOW).problem is None


def test_claims_of_a_wrong_type_count_as_absent() -> None:
    """Only numbers are instants, only texts are audiences."""
    claims = read_claims(jwt(exp="tomorrow", nbf=True, aud=[1, "", "o"]))
    assert claims == Claims(("o",), None, None)
    assert read_claims(jwt(exp=10**400)) == Claims()


def test_an_end_beyond_the_calendar_is_no_error() -> None:
    """A token may end in the year 300,000."""
    assert "beyond the calendar" in judge(jwt(exp=1e16), now=time.time()).message


@given(st.text() | st.lists(st.text(alphabet="abcXYZ019-_="), min_size=3, max_size=3).map(".".join))
def test_no_text_breaks_the_reading(token: str) -> None:
    """Every text is a JWT or told to be none, and what is said holds no part of it."""
    verdict = judge(token, now=NOW)
    assert verdict.problem == "not a JWT"
    assert len(token) < 12 or token not in verdict.message


@pytest.mark.parametrize("given", [None, 5, b"e30.e30.x"])
def test_what_is_no_text_is_told(given: Any) -> None:
    """And not shown."""
    with pytest.raises(ConfigurationError, match=r"The token is (None|an? (int|bytes)); give its text"):
        read_claims(given)
    assert judge(given, now=NOW).problem == "not a JWT"
