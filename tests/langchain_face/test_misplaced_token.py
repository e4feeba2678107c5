"""A token given in the place of another value is shown by no error of the retriever."""

from __future__ import annotations

from typing import Any

import pytest
from shown import shown_by

from rage_retrievers.langchain import VectorizeRetriever
from rage_retrievers.langchain._options import CallOptions, RetrieverOptions

from .conftest import IDS, TOKEN


@pytest.mark.parametrize("name", sorted(set(RetrieverOptions.__annotations__) - {"api_key", "api_token"}))
def test_an_option_of_the_retriever(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the token itself, which is an argument or comes from the environment."""
    options: dict[str, Any] = {**IDS, name: TOKEN}
    assert TOKEN not in shown_by(lambda: VectorizeRetriever(api_key=TOKEN, **options))
    monkeypatch.setenv("VECTORIZE_API_KEY", TOKEN)
    assert TOKEN not in shown_by(lambda: VectorizeRetriever(**options))


@pytest.mark.parametrize("name", sorted(set(CallOptions.__annotations__) - set(IDS)))
def test_an_option_of_a_call(name: str) -> None:
    """Nothing is sent, and the error says what would do."""
    retriever = VectorizeRetriever(api_key=TOKEN, **IDS)
    said = shown_by(lambda: retriever.invoke("What?", **{name: TOKEN}))  # type: ignore[arg-type]
    assert "cannot be used" in said or "use a mapping" in said
    assert TOKEN not in said
