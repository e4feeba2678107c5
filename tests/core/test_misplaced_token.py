"""A token given in the place of another value is shown by no error."""

from __future__ import annotations

from typing import Any

import pytest
from shown import shown_by

from rage_retrievers import ConfigurationError, VectorizeClient, VectorizeSettings, scope
from rage_retrievers.client import ClientOptions, QueryOptions
from rage_retrievers.observability import register_secret

SHORT, LONG = "planted-0451", "eyJhbGciOiJIUzI1NiJ9.eyJwbGFudGVkIjoxfQ.c2lnbmF0dXJlLXBsYW50ZWQ"
IDS: dict[str, Any] = {"organization": "org-1", "pipeline_id": "aip-1"}
KEYS = {"api_key", "api_token"}


@pytest.fixture(params=[SHORT, LONG], ids=["short", "long"])
def token(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def holds(text: str, token: str) -> bool:
    """Whether the text holds the token, or as much of it as tells it from others."""
    return token in text or token[-12:] in text


@pytest.mark.parametrize("name", sorted(set(ClientOptions.__annotations__) - KEYS))
def test_an_option_of_a_client(name: str, token: str) -> None:
    """Beside the token itself as an argument."""
    options: dict[str, Any] = {"api_key": token, **IDS, name: token}
    assert not holds(shown_by(lambda: VectorizeClient(**options)), token)


@pytest.mark.parametrize("name", sorted({*ClientOptions.__annotations__} - {"settings", *KEYS}))
def test_an_option_of_a_client_beside_settings(name: str, token: str) -> None:
    """Where the token itself comes with the settings."""
    options: dict[str, Any] = {"settings": VectorizeSettings.load(api_key=token), **IDS, name: token}
    assert not holds(shown_by(lambda: VectorizeClient(**options)), token)


@pytest.mark.parametrize("name", sorted(QueryOptions.__annotations__))
def test_an_option_of_a_call_or_a_scope(name: str, token: str) -> None:
    """Nothing is sent, and the error says what would do."""
    options: dict[str, Any] = {name: token}
    with VectorizeClient(api_key=token, **IDS) as client:
        if name not in IDS:
            said = shown_by(lambda: client.retrieve("What?", **options))
            assert name in said
            assert not holds(said, token)
        assert not holds(shown_by(lambda: scope(**options)), token)


@pytest.mark.parametrize("name", sorted(set(VectorizeSettings.model_fields) - {"api_key"}))
@pytest.mark.parametrize("place", ["argument", "environment", ".env"])
def test_a_setting(name: str, place: str, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token itself and the value in whose place it stands come from the same source."""
    variables = VectorizeSettings.variables()
    written = {variables["api_key"][-1]: token, variables[name][0]: token}
    if place == ".env":
        with open(".env", "w") as file:
            file.writelines(f"{variable}={value}\n" for variable, value in written.items())
    elif place == "environment":
        for variable, value in written.items():
            monkeypatch.setenv(variable, value)
    given: dict[str, Any] = {"api_key": token, name: token} if place == "argument" else {}
    said = shown_by(lambda: VectorizeSettings.load(**given))
    assert token[:12] not in said


def test_an_error_that_holds_no_token_is_left_as_it_is() -> None:
    """The value, where it is not the token, helps."""
    VectorizeSettings.load(api_key=SHORT)
    with pytest.raises(ConfigurationError, match="num_results = 'many' cannot be used"):
        VectorizeSettings.load(num_results="many")


@pytest.mark.parametrize("name", ["sk-live-4f9a0c", LONG, "a" * 40, "planted 0451"])
def test_the_name_of_an_option(name: str) -> None:
    """What could be no misspelt name of an option is not shown; the known ones are."""
    options: Any = {name: 1}
    for make in (lambda: VectorizeClient(**options), lambda: VectorizeSettings.load(**options)):
        said = shown_by(make)
        assert name[:12] not in said
        assert "api_key" in said


def test_the_name_of_an_option_that_is_a_token_in_use() -> None:
    """Also where it looks like a name."""
    name = SHORT.replace("-", "_")  # as no line of a traceback has it
    register_secret(name)
    options: Any = {name: 1}
    assert name not in shown_by(lambda: VectorizeClient(**options))


@pytest.mark.parametrize("name", ["metadataFilters", "metadata-filters", "top_k", "rerankk"])
def test_the_name_of_an_option_that_is_misspelt(name: str) -> None:
    """It is shown, with the one that is meant."""
    options: Any = {name: 1}
    with pytest.raises(TypeError, match=f"unknown keyword '{name}'; did you mean"):
        VectorizeClient(**options)
