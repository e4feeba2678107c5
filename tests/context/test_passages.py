"""Passages: the same view of a document, whichever framework or checkpoint it comes from."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from typing import Any

import pytest
from langchain_core.documents import Document as LangChainDocument
from langchain_core.load import dumpd
from llama_index.core.schema import NodeWithScore, TextNode

from rage_retrievers.context import Citation, cite, cited, passages, render
from rage_retrievers.context.formats import STYLES
from rage_retrievers.errors import ConfigurationError
from rage_retrievers.models import Document, Retrieval

WIRE: dict[str, Any] = {
    "relevancy": 0.9959771,
    "id": "bd64-84",
    "text": "2014 Employee Stock Plan",
    "chunk_id": "84",
    "total_chunks": "229",
    "origin": "file-upload",
    "similarity": 0.77146006,
    "source": "582893ba/apple.pdf",
    "unique_source": "bd64",
    "source_display_name": "582893ba/cdfa/apple.pdf",
    "index": "sp-1536-dev",
    "metadata": {"year": 2014},
}
LANGCHAIN = LangChainDocument(
    page_content=WIRE["text"],
    id=WIRE["id"],
    metadata={key: value for key, value in WIRE.items() if key not in ("text", "id")} | {"ordered_by": "relevancy"},
)
NODE = NodeWithScore(
    node=TextNode(
        text=WIRE["text"],
        id_=WIRE["id"],
        metadata={key: WIRE[key] for key in WIRE if key not in ("text", "id", "relevancy", "similarity")},
    ),
    score=WIRE["relevancy"],
)
SHAPES = {
    "wire": WIRE,
    "document": Document.model_validate(WIRE),
    "document as dict": Document.model_validate(WIRE).model_dump(),
    "langchain": LANGCHAIN,
    "langchain as dict": LANGCHAIN.model_dump(),
    "langchain serialized": dumpd(LANGCHAIN),
    "node": NODE,
    "node as dict": NODE.model_dump(),
    "node to_dict": NODE.to_dict(),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_document_has_the_same_passage_in_every_shape(shape: str) -> None:
    """Id, text, score and its kind, source, title and user metadata survive framework and checkpoint alike."""
    given = SHAPES[shape]
    (one,) = passages([given], ordered_by="relevancy")
    assert (one.id, one.text, one.score, one.ordered_by) == ("bd64-84", WIRE["text"], 0.9959771, "relevancy")
    assert (one.source, one.title, dict(one.metadata)) == ("bd64", "apple.pdf", {"year": 2014})
    assert (one.fields["chunk_id"], one.fields["total_chunks"], one.fields["origin"]) == ("84", "229", "file-upload")
    assert one.original is given


@pytest.mark.parametrize("shape", SHAPES)
def test_a_citation_is_the_same_for_every_shape(shape: str) -> None:
    """And is JSON once it is a dict."""
    (one,) = cite([SHAPES[shape]], ordered_by="relevancy")
    expected = Citation(1, "bd64-84", "apple.pdf", "bd64", 0.9959771, "relevancy", "84", WIRE["text"])
    assert one == expected
    assert json.loads(json.dumps(asdict(one)))["number"] == 1


@pytest.mark.parametrize("shape", ["document", "langchain", "wire", "langchain serialized"])
def test_a_document_without_an_id_gets_one_that_stays(shape: str) -> None:
    """Made of source, chunk and text, so that it is the same in both frameworks and on another day."""
    bare = {key: value for key, value in WIRE.items() if key != "id"}
    shapes = {
        "document": Document.model_validate(bare),
        "wire": bare,
        "langchain": (unnamed := LANGCHAIN.model_copy(update={"id": None})),
        "langchain serialized": dumpd(unnamed),
    }
    (one,) = passages([shapes[shape]])
    assert one.id == "sha256-c6381dae624e9641d43b98b5"
    assert passages([{**bare, "text": "another"}])[0].id != one.id
    assert passages([{**bare, "chunk_id": "85"}])[0].id != one.id


def test_a_retrieval_tells_which_score_ordered_it() -> None:
    """Whatever the numbers look like, unless the caller says another."""
    documents = tuple(Document(text="t", relevancy=score, similarity=1 - score) for score in (0.2, 0.8))
    for kind in ("relevancy", "similarity"):
        found = passages(Retrieval(documents=documents).with_facts(ordered_by=kind))
        assert [(one.ordered_by, one.score) for one in found] == [
            (kind, one.relevancy if kind == "relevancy" else one.similarity) for one in found
        ]
        said = passages(Retrieval(documents=documents).with_facts(ordered_by=kind), ordered_by="similarity")
        assert [one.score for one in said] == [one.similarity for one in said]


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ([(0.9, 0.1), (0.5, 0.2)], "relevancy"),
        ([(0.1, 0.9), (0.5, 0.8)], "similarity"),
        ([(0.1, 0.9), (0.5, 0.8), (0.2, 0.95)], None),
        ([(None, 0.1), (None, 0.8)], "similarity"),
        ([(0.9, 0.7), (None, 0.8)], "relevancy"),
        ([(None, None)], None),
    ],
)
def test_a_bare_list_is_read_by_the_score_it_is_in_order_of(scores: list[Any], told: str | None) -> None:
    """Where that is unclear there is no score, and none is invented for a document that lacks it."""
    found = passages(
        [{"text": "t", "relevancy": relevancy, "similarity": similarity} for relevancy, similarity in scores]
    )
    for one, (relevancy, similarity) in zip(found, scores, strict=True):
        number = {"relevancy": relevancy, "similarity": similarity}.get(told or "")
        assert (one.score, one.ordered_by) == (number, told if number is not None else None)


@pytest.mark.parametrize("number", [None, "x", float("nan"), float("inf"), 10**400, True, []])
def test_a_score_that_is_no_number_is_absent(number: Any) -> None:
    """Not 0, not 1."""
    (one,) = passages([{"text": "t", "relevancy": number}], ordered_by="relevancy")
    assert (one.score, one.ordered_by, one.relevancy, one.kind) == (None, None, None, "")


@pytest.mark.parametrize("dump", [False, True])
def test_a_named_score_that_did_not_arrive_is_not_replaced_by_the_other(dump: bool) -> None:
    """A reranked list without relevancy has no score, though similarity is there."""
    metadata = {"similarity": 0.7, "score": None, "ordered_by": "relevancy"}
    node = _Named(node=TextNode(text="t"), score=None, similarity=0.7, ordered_by="relevancy")
    for given in (LangChainDocument(page_content="t", metadata=metadata), node):
        (one,) = passages([given.model_dump() if dump else given])
        assert (one.score, one.ordered_by, one.similarity) == (None, None, 0.7)


class _Named(NodeWithScore):
    """A scored node that carries the service's numbers beside its score, outside of its hash."""

    ordered_by: str | None = None
    relevancy: float | None = None
    similarity: float | None = None


@pytest.mark.parametrize("dump", [False, True])
def test_a_node_that_carries_the_services_numbers_tells_them(dump: bool) -> None:
    """Live or saved; once a reranker sets another score, that score is of another kind."""
    node = _Named(node=TextNode(text="t"), score=0.9, similarity=0.7, relevancy=0.9, ordered_by="relevancy")
    for score, kind in ((0.9, "relevancy"), (0.2, None)):
        node.score = score
        (one,) = passages([node.model_dump() if dump else node])
        assert (one.score, one.ordered_by, one.relevancy, one.similarity) == (score, kind, 0.9, 0.7)
    node.relevancy = node.similarity = 0.0
    node.node.metadata["relevancy"] = 0.5  # as another answer's
    (one,) = passages([node.model_dump() if dump else node])
    assert (one.relevancy, one.similarity) == (0.0, 0.0)


def test_a_field_of_the_users_called_kwargs_makes_no_langchain_document() -> None:
    """Only what says that LangChain has written it is read so."""
    (one,) = passages([{"text": "t", "kwargs": {"page_content": "of another kind"}}])
    assert (one.text, one.metadata) == ("t", {"kwargs": {"page_content": "of another kind"}})


def test_another_tools_score_has_a_kind_of_its_own() -> None:
    """A fusion's or reranker's number is neither relevancy nor similarity, though both are known."""
    metadata = {"relevancy": 0.9, "similarity": 0.7, "ordered_by": "relevancy"}
    (one,) = passages([NodeWithScore(node=TextNode(text="t", metadata=metadata), score=0.016)])
    assert (one.score, one.ordered_by, one.kind, one.relevancy) == (0.016, None, "score", 0.9)


def test_a_score_equal_to_both_numbers_is_of_neither_kind() -> None:
    """Nobody has said which one ordered the list."""
    (one,) = passages([{"text": "t", "relevancy": 0.5, "similarity": 0.5, "score": 0.5}])
    assert (one.score, one.ordered_by) == (0.5, None)


def test_a_users_own_field_called_score_is_not_ours() -> None:
    """An exam's result beside the service's numbers does not order the list; where there are none, it is the score."""
    (one,) = passages([LangChainDocument(page_content="t", metadata={"similarity": 0.7, "score": 95})])
    assert (one.score, one.ordered_by) == (0.7, "similarity")
    (alone,) = passages([LangChainDocument(page_content="t", metadata={"score": 0.4})])
    assert (alone.score, alone.kind) == (0.4, "score")


def test_documents_of_other_retrievers_work_as_well() -> None:
    """LangChain's and LlamaIndex's habits for source, name and page are understood."""
    one, other = passages(
        [
            LangChainDocument(page_content="a", metadata={"source": "docs/a.pdf", "page": 3}),
            TextNode(text="b", id_="n", metadata={"file_path": "/tmp/b.txt", "file_name": "b.txt"}),
        ]
    )
    assert (one.source, one.title, dict(one.metadata), one.score) == ("docs/a.pdf", "a.pdf", {"page": 3}, None)
    assert (other.id, other.source, other.title) == ("n", "/tmp/b.txt", "b.txt")


def test_passages_of_passages_are_the_same() -> None:
    """So every function here takes either."""
    once = passages([WIRE, {"text": "t", "relevancy": 0.1, "similarity": 0.9}, {"text": "u", "relevancy": 0.4}])
    assert passages(once) == once
    assert passages(once[:1]) == once[:1]


@pytest.mark.parametrize(
    "shape", [LangChainDocument(page_content=""), TextNode(text=""), NodeWithScore(node=TextNode())]
)
def test_an_empty_text_is_a_text(shape: Any) -> None:
    """Live or saved."""
    assert [one.text for one in passages([shape, shape.model_dump()])] == ["", ""]


@pytest.mark.parametrize("given", ["text", b"text", WIRE, 5, None, [5], [None], [{}], ["text"], [{"text": 3}]])
def test_what_is_no_list_of_documents_is_an_error(given: Any) -> None:
    """A single dict or a text is not taken for a list of its parts."""
    with pytest.raises(ConfigurationError, match=r"documents with (an? \w+|None) cannot"):
        passages(given)


def test_reading_changes_nothing_and_shows_nothing() -> None:
    """The documents stay as they were, and no text or metadata gets into a `repr`."""
    before = copy.deepcopy(WIRE)
    (one,) = passages([WIRE])
    assert before == WIRE
    assert "Stock" not in repr(one)
    assert "2014" not in repr(one)
    assert "Stock" not in repr(cite([WIRE]))


def test_the_references_of_an_answer_lead_to_its_citations() -> None:
    """In the order of first mention, each once; numbers that nothing has are passed over."""
    citations = cite([{"text": text} for text in "abc"])
    answer = "Bees dance [2]. They hum [1, 2] and sting【3】[99] [x] [1]."
    assert [one.number for one in cited(answer, citations)] == [2, 1, 3]
    assert [one.number for one in cited("Both [3; 1].", citations)] == [3, 1]
    assert cited("nothing", citations) == []


@pytest.mark.parametrize(("answer", "given"), [(5, []), (None, []), ("[1]", [WIRE]), ("[1]", ["text"])])
def test_what_are_no_citations_is_refused(answer: Any, given: Any) -> None:
    """The documents themselves have no numbers."""
    with pytest.raises(ConfigurationError, match=r"^citations holds |^answer is "):
        cited(answer, given)


def test_citations_are_numbered_as_the_rendering_is() -> None:
    """Number and text belong together."""
    given = [{"text": "a"}, {"text": "b"}]
    lines = render(given, "compact").splitlines()
    assert [f"[{one.number}] {one.text}" for one in cite(given)] == lines
    assert cite([{"text": "a", "chunk_id": 0}])[0].chunk_id == "0"


@pytest.mark.parametrize(
    ("known", "title"),
    [
        ({"source_display_name": "org-1/conn/report.pdf"}, "report.pdf"),
        ({"source_display_name": "org-1/conn/"}, "conn"),
        ({"source_display_name": "org-1\\conn\\report.pdf"}, "report.pdf"),
        ({"source": "https://bucket.example/org-1/report.pdf?signature=abc#page=2"}, "report.pdf"),
        ({"source": "https://bucket.example/org-1/report.pdf#signature"}, "report.pdf"),
        ({"source": "https://example.com/"}, "example.com"),
        ({"source_display_name": "Why? #1.md"}, "Why? #1.md"),
        ({"source_display_name": "org-1", "source": "org-1/a.md", "org_id": "org-1"}, "a.md"),
        ({"source_display_name": "org-1/", "org_id": "org-1"}, None),
        ({"source": "/"}, None),
        ({}, None),
    ],
)
def test_a_title_is_the_last_part_of_a_path(known: dict[str, Any], title: str | None) -> None:
    """No folder, no signature and no organization reaches a prompt or a reader."""
    (one,) = passages([{"text": "t", **known}])
    assert one.title == title
    for style in STYLES:
        shown = render([one], style)
        assert "org-1" not in shown
        assert "signature" not in shown


def test_a_nodes_file_name_is_told_as_metadata_only_where_it_is_the_users() -> None:
    """What this package adds for models to read is not the user's metadata."""
    added = {"text": "t", "source": "a/b.md", "file_name": "b.md"}
    assert passages([added])[0].metadata == {}
    assert passages([{**added, "file_name": "B"}])[0].metadata == {"file_name": "B"}
    assert passages([{**added, "metadata": {"file_name": "b.md"}}])[0].metadata == {"file_name": "b.md"}
    assert passages([{"text": "t", "file_name": "b.md"}])[0].metadata == {"file_name": "b.md"}
