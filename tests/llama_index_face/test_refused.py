"""What the functions of the LlamaIndex face refuse, before a model or the service hears of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llama_index_face.conftest import Scripted
from rage_retrievers import ConfigurationError
from rage_retrievers.llama_index import research_tool, retrieval_tool, to_context, to_nodes


@pytest.mark.parametrize("given", [5, None, [], {"documents": []}])
def test_nodes_are_made_of_an_answer(given: Any) -> None:
    """A list of documents tells no order."""
    with pytest.raises(ConfigurationError, match="retrieval is "):
        to_nodes(given)


@pytest.mark.parametrize("given", [5, None, "hello", b"hello", {"role": "user"}])
def test_a_conversation_is_a_list(given: Any) -> None:
    """Of a text each letter would be a message."""
    with pytest.raises(ConfigurationError, match="messages is "):
        to_context(given)


@pytest.mark.parametrize("make", [retrieval_tool, research_tool])
@pytest.mark.parametrize("name", ["name", "description"])
@pytest.mark.parametrize("given", [5, None, "", " ", b"search"])
def test_a_tool_has_a_name_and_says_what_it_is_for(
    make: Callable[..., Any], name: str, given: Any, scripted: Scripted
) -> None:
    """A model could not call it."""
    with pytest.raises(ConfigurationError, match=f"^{name} = "):
        make(scripted.retriever(), **{name: given})
