"""What the LangChain face refuses, in words of ours and before anything is sent."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import pytest
from pydantic import Field

from rage_retrievers import ConfigurationError
from rage_retrievers.langchain import VectorizeResearch, VectorizeRetriever, create_research_tool

from .conftest import Recorder, in_loop


class Kind(StrEnum):
    """Texts."""

    PDF = "pdf"


class Day(Enum):
    """Things, which have a text."""

    MONDAY = "monday"


Year = NewType("Year", int)


@pytest.mark.parametrize(
    "kind",
    [date(2024, 1, 1), date, UUID, Decimal, bytes, object, Any, dict, list[date], Literal[b"x"], Day, int | date, None,
     int | None, 5, "int"],
)  # fmt: skip
def test_a_tool_refuses_the_type_of_a_value_that_no_filter_holds(kind: Any, service: Recorder) -> None:
    """When it is made: a search in which the model fills it in would fail, each time."""
    with pytest.raises(ConfigurationError, match=r"filters field 'd' = .* is no type"):
        service.retriever().as_tool(filters={"d": kind})


@pytest.mark.parametrize(
    "kind", [str, int, float, bool, list[int], Literal["a", 2], Kind, int | str, Annotated[int, Field(ge=2000)], Year]
)
def test_a_tool_takes_the_types_that_filters_hold(kind: Any, service: Recorder) -> None:
    """Whatever stands for texts, numbers and booleans."""
    assert "d" in service.retriever().as_tool(filters={"d": kind}).args


@pytest.mark.parametrize("name", ["name", "description"])
@pytest.mark.parametrize("given", [5, "", " ", b"search"])
def test_a_tool_has_a_name_and_says_what_it_is_for(name: str, given: Any, service: Recorder) -> None:
    """Pydantic's own error would quote what was given."""
    for make in (service.retriever().as_tool, lambda **one: create_research_tool(service.retriever(), **one)):
        with pytest.raises(ConfigurationError, match=f"^{name} = "):
            make(**{name: given})


def test_a_tool_tells_errors_or_does_not(service: Recorder) -> None:
    """Anything else would be LangChain's to read."""
    options: Any = {"tell_errors": "always"}
    with pytest.raises(ConfigurationError, match="tell_errors = 'always' cannot be used"):
        service.retriever().as_tool(**options)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"options": 5}, "options is an int; give a mapping"),
        ({"options": ["timeout"]}, "options is a list"),
        ({"options": {"timeout": -1}}, "timeout = -1 cannot be used"),
        ({"retriever": 5}, "retriever is an int; give a VectorizeRetriever"),
        ({"retriever": None}, "retriever is None"),
        ({"name": 5}, "name is an int"),
    ],
)
def test_a_research_is_refused_when_it_is_made(given: dict[str, Any], said: str, service: Recorder) -> None:
    """By one kind of error."""
    with pytest.raises(ConfigurationError, match=said):
        VectorizeResearch(**{"retriever": service.retriever(), **given})


@pytest.mark.parametrize("options", [{"timout": 5}, {"options": {"timout": 5}}, {"options": {5: 5}}])
def test_a_research_refuses_a_keyword_nobody_reads(options: dict[Any, Any], service: Recorder) -> None:
    """LangChain would pass over it."""
    with pytest.raises(TypeError, match="unknown keyword"):
        VectorizeResearch(retriever=service.retriever(), **options)


@pytest.mark.parametrize(("name", "given"), [("name", 5), ("tags", "a"), ("metadata", [1])])
def test_a_field_of_langchains_own_is_refused_alike(name: str, given: Any, service: Recorder) -> None:
    """Errors that are no ConfigurationError would need a clause of their own."""
    with pytest.raises(ConfigurationError, match=rf"^{name} is an? \w+; "):
        service.retriever(**{name: given})


@pytest.mark.parametrize("given", [5, "k=5", object()])
def test_an_option_in_the_place_of_the_config_is_told(given: Any, service: Recorder) -> None:
    """`invoke(question, 5)` means no five passages."""
    retriever: VectorizeRetriever = service.retriever()
    said = r"config is an? \w+; give a RunnableConfig"
    for ask in (retriever.invoke, lambda one, config: retriever.batch([one], config)):
        with pytest.raises(ConfigurationError, match=said):
            ask("q", given)
    with pytest.raises(ConfigurationError, match=said):
        in_loop(lambda: retriever.ainvoke("q", given))
    with pytest.raises(ConfigurationError, match=said):
        in_loop(lambda: retriever.abatch(["q"], given))
    assert service.requests == []


@pytest.mark.parametrize("given", ["Why?", b"Why?", 5, None, {"question": "Why?"}])
def test_a_batch_is_a_list(given: Any, service: Recorder) -> None:
    """Of a single question each letter would be asked."""
    retriever: VectorizeRetriever = service.retriever()
    for ask in (retriever.batch, lambda questions: list(retriever.batch_as_completed(questions))):
        with pytest.raises(ConfigurationError, match=r"inputs is .*; give a list of questions"):
            ask(given)
    with pytest.raises(ConfigurationError, match="inputs is "):
        in_loop(lambda: retriever.abatch(given))
    assert service.requests == []
