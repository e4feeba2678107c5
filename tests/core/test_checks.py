"""What an error says of a value that cannot be used."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from rage_retrievers import ConfigurationError, VectorizeClient
from rage_retrievers._checks import typed
from rage_retrievers.engines import embedded


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("text", "a str"),
        (5, "an int"),
        (object(), "an object"),
        (ArithmeticError(), "an ArithmeticError"),
        (UUID(int=1), "a UUID"),
        (None, "None"),
        (int, "the class int"),
    ],
)
def test_a_type_is_told_with_its_article(value: object, said: str) -> None:
    """As one would say it."""
    assert typed(value) == said


@pytest.mark.parametrize("name", ["pipeline_id", "listeners", "settings", "engine"])
def test_a_message_of_a_client_tells_it_so(name: str) -> None:
    """Every message is made in one place."""
    options: dict[str, Any] = {"api_key": "t", "organization": "o", "pipeline_id": "p", name: 5}
    with pytest.raises(ConfigurationError) as refused:
        VectorizeClient(**options)
    assert " a int" not in str(refused.value)


@pytest.mark.parametrize("folder", [5, None, "", " ", b"docs", ["docs"], "x" * 5_000, "a\0b", "~nobody-here/docs"])
def test_what_is_no_folder_is_told_before_anything_is_opened(folder: Any) -> None:
    """An empty one would be the directory of the process, with whatever lies there."""
    with pytest.raises(ConfigurationError, match=r"^folder ") as refused:
        embedded(folder)
    assert len(str(refused.value)) < 1_200


@pytest.mark.parametrize("name", ["organization", "pipeline_id"])
@pytest.mark.parametrize("given", [5, ["o"], "\ud800", "two words"])
def test_ids_of_an_embedded_pipeline_are_checked_too(name: str, given: Any, tmp_path: Any) -> None:
    """They are part of an address there as well."""
    with pytest.raises(ConfigurationError, match=name):
        VectorizeClient(engine=embedded(str(tmp_path)), **{name: given})


@pytest.mark.parametrize("given", [5, "cross-encoder"])
def test_a_reranker_is_a_function(given: Any, tmp_path: Any) -> None:
    """When the pipeline is named, not at the first question."""
    with pytest.raises(ConfigurationError, match="reranker"):
        embedded(str(tmp_path), reranker=given)
