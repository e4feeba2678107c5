"""Retrieval over a folder: ranking, modes, filters, follow-ups, and what an answer says."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalService, analysis, ranking, text_index
from rage_retrievers.local.text_index import TextView
from rage_retrievers.local.vectors import VectorRows

from .conftest import Asker

MODES = ["text", "vector", "hybrid"]


@pytest.fixture
def ask(steady: Any) -> Any:
    """No test here changes the folder."""
    return steady


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rerank", [True, False])
@pytest.mark.parametrize(
    ("question", "source"),
    [
        ("how do bees tell where flowers are", "notes/bees.txt"),
        ("when are income tax returns due", "tax.pdf"),
        ("who raises the rent", "letter.docx"),
        ("what is lava", "page.html"),
        ("pruning tomatoes", "guide.md"),
    ],
)
def test_the_document_that_answers_comes_first(ask: Any, mode: str, rerank: bool, question: str, source: str) -> None:
    """Every format is found, in every mode, with and without reranking."""
    assert ask.sources(question, rerank=rerank, advanced={"mode": mode})[0] == source


def test_a_document_has_every_field_of_the_protocol(ask: Any) -> None:
    """Types and names are the service's, user metadata keeps its JSON types."""
    answer = ask("income tax")
    document = answer["documents"][0]
    assert answer["question"] == "income tax"
    assert document["text"] == "Income tax returns are due in April"
    assert (document["chunk_id"], document["total_chunks"]) == ("0", "1")
    assert document["id"] == f"{document['unique_source']}-0"
    assert document["source"] == document["source_display_name"] == "tax.pdf"
    assert document["pipeline_id"] == LOCAL_PIPELINE
    assert document["org_id"] == LOCAL_ORGANIZATION
    assert isinstance(document["relevancy"], float)
    assert isinstance(document["similarity"], float)
    assert {k: document["metadata"][k] for k in ("year", "official", "office")} == {
        "year": 2023, "official": True, "office": {"city": "Graz"},
    }  # fmt: skip


def test_what_a_document_says_of_itself_is_metadata(ask: Any) -> None:
    """Titles, authors and front matter arrive beside the text."""
    page = ask("what is lava")["documents"][0]
    guide = ask("pruning tomatoes")["documents"][0]
    assert (page["metadata"]["title"], page["metadata"]["author"]) == ("Volcanoes", "Ada")
    assert page["text"] == "Lava is molten rock that a volcano expels."
    assert guide["metadata"] == {"type": "md", "title": "Gardening guide", "tags": ["manual", "green"], "year": 2024}
    assert "---" not in guide["text"]


@pytest.mark.parametrize("mode", MODES)
def test_lists_are_ordered_by_the_score_that_was_asked_for(ask: Any, mode: str) -> None:
    """Relevancy orders a reranked list, similarity any other; ndcg is 1 when reranked."""
    reranked = ask("water for the engine of the volcano", num_results=6, rerank=True, advanced={"mode": mode})
    plain = ask("water for the engine of the volcano", num_results=6, rerank=False, advanced={"mode": mode})
    relevancies = [d["relevancy"] for d in reranked["documents"]]
    similarities = [d["similarity"] for d in plain["documents"]]
    assert relevancies == sorted(relevancies, reverse=True)
    assert similarities == sorted(similarities, reverse=True)
    assert reranked["ndcg"] == pytest.approx(1)
    assert reranked["average_relevancy"] == pytest.approx(sum(relevancies) / len(relevancies))


def test_ndcg_compares_with_the_best_order() -> None:
    """The order given, discounted by rank, over the best order of the same relevancies."""
    average, ndcg = ranking.quality([0.5, 1.0])
    assert average == 0.75
    assert ndcg == pytest.approx((0.5 + 1 / math.log2(3)) / (1 + 0.5 / math.log2(3)))


def test_relevancies_are_between_zero_and_one(ask: Any) -> None:
    """Relevancy is a share, comparable between questions."""
    for question in ("bees", "bees bees bees", "", "zzz", "日本語", "the of and"):
        for document in ask(question, num_results=6, advanced={"mode": "hybrid"})["documents"]:
            assert 0 <= document["relevancy"] <= 1


def test_a_question_of_endless_pairs_of_words_costs_a_bounded_number_of_searches(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first pairs of a question are looked for."""
    asked: list[int] = []
    pairs = TextView.pairs

    def counted(self: TextView, named: Any, within: Any) -> Any:
        asked.append(len(named))
        return pairs(self, named, within)

    monkeypatch.setattr(TextView, "pairs", counted)
    ask(" ".join(f"bee{number}" for number in range(2000)), rerank=True)
    assert asked == [256]


@pytest.mark.parametrize(("mode", "searches", "looks"), [("text", 1, 1), ("vector", 1, 0), ("hybrid", 1, 1)])
def test_what_the_first_stage_knows_is_not_asked_for_again(
    ask: Any, monkeypatch: pytest.MonkeyPatch, mode: str, searches: int, looks: int
) -> None:
    """One search for the words, and one look at the vectors of those that hold them."""
    asked: list[str] = []

    def counted(kind: type, name: str) -> None:
        method = getattr(kind, name)

        def noted(*given: Any) -> Any:
            asked.append(name)
            return method(*given)

        monkeypatch.setattr(kind, name, noted)

    counted(TextView, "search")
    counted(VectorRows, "scores_of")
    assert ask("tomatoes want water", num_results=2, advanced={"mode": mode})["documents"]
    assert [asked.count("search"), asked.count("scores_of")] == [searches, looks]


def test_no_more_documents_than_asked(ask: Any) -> None:
    """numResults is a bound."""
    assert len(ask("tomatoes", num_results=2)["documents"]) == 2


def test_text_mode_returns_only_what_matches(ask: Any) -> None:
    """A word that is nowhere finds nothing, and the averages of nothing are zero."""
    answer = ask("xylophone", advanced={"mode": "text"})
    assert answer == {"question": "xylophone", "documents": [], "average_relevancy": 0.0, "ndcg": 0.0}


def test_a_phrase_must_stand_in_the_text_as_asked(ask: Any) -> None:
    """match_phrase keeps word order, stop words between them counted."""
    phrase = {"mode": "text", "match_type": "match_phrase"}
    assert ask.sources("revolution of the crankshaft", advanced=phrase) == ["notes/engines.txt"]
    assert ask.sources("crankshaft of the revolution", advanced=phrase) == []
    assert ask.sources("revolution crankshaft", advanced=phrase) == []


def test_text_fields_choose_where_words_are_looked_for(ask: Any) -> None:
    """title, source and metadata fields can be searched, alone or together, with boosts."""
    for match_type in ("match", "multi_match"):
        knobs = {"mode": "text", "match_type": match_type}
        assert ask.sources("volcanoes", advanced=knobs | {"text_fields": ["title"]}) == ["page.html"]
        assert ask.sources("graz", advanced=knobs | {"text_fields": ["metadata.office.city"]}) == ["tax.pdf"]
        assert ask.sources("bees", advanced=knobs | {"text_fields": ["source"]}) == ["notes/bees.txt"]
        both = ask.sources("volcanoes tomatoes", advanced=knobs | {"text_fields": ["title^9", "text"]})
        assert both[0] == "page.html"
        assert set(both) == {"page.html", "guide.md"}


def test_text_boost_weighs_the_words_of_a_hybrid_search(ask: Any) -> None:
    """A boost of zero leaves the vector's order."""
    vector = ask.sources("tomatoes", num_results=6)
    assert ask.sources("tomatoes", num_results=6, advanced={"mode": "hybrid", "text_boost": 0}) == vector


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([{"year": [2023]}], {"tax.pdf"}),
        ([{"metadata.year": [2023, 2024]}], {"tax.pdf", "guide.md"}),
        ([{"year": [2023, 2024]}, {"official": [True]}], {"tax.pdf"}),
        ([{"year": ["2023"]}], set()),
        ([{"official": [1]}], set()),
        ([{"tags": ["green"]}], {"guide.md"}),
        ([{"office.city": ["Graz"]}], {"tax.pdf"}),
        ([{"document_metadata.type": ["pdf", "html"]}], {"tax.pdf", "page.html"}),
        ([{"source": "notes/bees.txt"}], {"notes/bees.txt"}),
        ([{"year": []}], set()),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_metadata_filters_hold(ask: Any, filters: Any, expected: set[str], mode: str) -> None:
    """AND across objects, OR within a list, nested keys with dots, JSON types told apart."""
    question = "tomatoes bees stroke lava income rent"
    assert set(ask.sources(question, num_results=9, metadata_filters=filters, advanced={"mode": mode})) == expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"term": {"year": 2023}}, {"tax.pdf"}),
        ({"term": {"metadata.year": {"value": 2023}}}, {"tax.pdf"}),
        ({"terms": {"type": ["pdf", "docx"]}}, {"tax.pdf", "letter.docx"}),
        ({"range": {"year": {"gte": 2023, "lt": 2024}}}, {"tax.pdf"}),
        ({"range": {"title": {"gte": "V"}}}, {"page.html"}),
        ({"exists": {"field": "year"}}, {"tax.pdf", "guide.md"}),
        ({"bool": {"must": [{"term": {"type": "txt"}}], "must_not": {"term": {"source": "notes/bees.txt"}}}},
         {"notes/engines.txt"}),
        ({"bool": {"should": [{"term": {"year": 2023}}, {"bool": {"filter": [{"term": {"type": "html"}}]}}]}},
         {"tax.pdf", "page.html"}),
        ({"bool": {"must": {"exists": {"field": "year"}}, "should": [{"term": {"year": 1}}]}}, {"tax.pdf", "guide.md"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", MODES)
def test_query_filters_hold(ask: Any, filters: Any, expected: set[str], mode: str) -> None:
    """term, terms, range, exists and nested bool, as Elasticsearch reads them."""
    question = "tomatoes bees stroke lava income rent"
    assert set(ask.sources(question, num_results=9, advanced={"mode": mode, "filters": filters})) == expected


def test_a_follow_up_is_resolved_against_the_conversation(ask: Any) -> None:
    """A question that points back finds what the conversation is about; one that stands alone is left as it is."""
    messages = [
        {"role": "user", "content": "Tell me about honey bees"},
        {"role": "assistant", "content": "They dance."},
    ]
    context = {"messages": messages}
    knobs = {"mode": "hybrid"}
    assert ask.sources("Where do they live?", context=context, advanced=knobs)[0] == "notes/bees.txt"
    assert ask.sources("when are income tax returns due", context=context, advanced=knobs)[0] == "tax.pdf"


def test_an_injected_embedding_takes_the_place_of_the_built_in(folder: Path, open_service: Any) -> None:
    """LangChain's and LlamaIndex's methods are both understood, and their vectors rank."""

    class Counting:
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [self.embed_query(text) for text in texts]

        def embed_query(self, text: str) -> list[float]:
            return [float("rent" in text), float("hive" in text), 0.1]

    class Renamed:
        def get_text_embedding_batch(self, texts: list[str]) -> list[list[float]]:
            return Counting().embed_documents(texts)

        def get_query_embedding(self, text: str) -> list[float]:
            return Counting().embed_query(text)

    from .conftest import Asker

    for model in (Counting(), Renamed()):
        ask = Asker(open_service(folder, embedding=model))
        assert ask.sources("the hive")[0] == "notes/bees.txt"
        assert ask("rent")["documents"][0]["similarity"] == pytest.approx(1, abs=0.01)


def test_an_injected_embedding_counts_for_more_than_the_built_in(folder: Path, open_service: Any) -> None:
    """A passage that holds no word of the question has four tenths of its cosine, in both scores."""
    from .conftest import Asker

    class Same:
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[1.0, 0.0] for _ in texts]

        def embed_query(self, text: str) -> list[float]:
            return [1.0, 0.0]

    (first, *_) = Asker(open_service(folder, embedding=Same()))("zebra", advanced={"mode": "hybrid"})["documents"]
    assert (first["similarity"], first["relevancy"]) == (pytest.approx(0.4), pytest.approx(0.4))


def test_a_reranker_orders_the_list(folder: Path, open_service: Any) -> None:
    """Its numbers are the relevancies of a reranked answer, and are not asked for otherwise."""
    from .conftest import Asker

    asked: list[str] = []

    def shortest(question: str, texts: list[str]) -> list[float]:
        asked.append(question)
        return [-float(len(text)) for text in texts]

    service: LocalService = open_service(folder, reranker=shortest)
    ask = Asker(service)
    assert ask.sources("anything", rerank=True)[0] == "tax.pdf"
    ask("anything", rerank=False)
    assert asked == ["anything"]


def test_hybrid_finds_what_is_near_beyond_the_passages_whose_words_match_best(
    tmp_path: Path, open_service: Any
) -> None:
    """Four hundred passages whose words match better hide none that is the best by both."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(450):
        (folder / f"{number}.txt").write_text(f"stone stone {number}", encoding="utf-8")
    for number in range(3):
        (folder / f"near-{number}.txt").write_text(f"stone among much else {number}", encoding="utf-8")

    class Leaning:
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[0.6, 0.8] if "among" in text else [0.0, 1.0] for text in texts]

        def embed_query(self, _: str) -> list[float]:
            return [1.0, 0.0]

    ask = Asker(open_service(folder, embedding=Leaning(), follow_seconds=60.0))
    for count in (5, 100):
        found = ask.sources("stone", num_results=count, rerank=False, advanced={"mode": "hybrid"})
        assert set(found[:3]) == {"near-0.txt", "near-1.txt", "near-2.txt"}


@pytest.mark.parametrize("searches", [1, 4])
def test_every_pair_of_words_that_a_passage_holds_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, searches: int
) -> None:
    """In a passage named, in order, also where so many pairs and names are given that they take several searches."""
    monkeypatch.setattr(text_index, "_PAIRS_TIMES_NAMES", 30 // searches)
    words = ["amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet", "harbor", "island", "juniper", "lagoon"]
    index = text_index.TextIndex.made(tmp_path / "text")
    with index.writing() as writing:
        writing.add((n, " ".join(words[: n + 1]), "", "", "{}") for n in range(11))
        writing.commit(())
    given = [(analysis.terms(one)[0], analysis.terms(two)[0]) for one, two in pairwise(words)]
    assert index.view().pairs(given, [10, 0, 1]).tolist() == [10.0, 0.0, 1.0]
