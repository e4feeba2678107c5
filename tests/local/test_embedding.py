"""The built-in vectors, the mean of a text's tokens whatever was read before it; and those that others give."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local import LocalService, embedding
from rage_retrievers.local.embedding import Injected, WordVectors, _Words

from .conftest import Asker

TEXTS = [
    "Honey bees dance.",
    "",
    "naïve cafés in 東京, e.g. \u2581here \u3000 there",
    "  ",
    "Honey bees dance, then (re)dance: x_1=y[2] 😀",
]


def by_the_tokenizer(texts: list[str]) -> np.ndarray:
    """The same vectors, each word through the whole tokenizer on its own."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    spec = find_spec("wordllama")
    assert spec is not None
    assert spec.origin is not None
    home = Path(spec.origin).parent
    tokenizer = Tokenizer.from_file(str(home / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    table = load_file(str(home / "weights" / "l2_supercat_256.safetensors"))["embedding.weight"].astype(np.float32)
    found = [[i for w in text.split() for i in tokenizer.encode(w, add_special_tokens=False).ids] for text in texts]
    return embedding.unit(np.stack([table[np.asarray(ids, dtype=np.intp)].sum(axis=0) for ids in found]))


def test_a_text_is_the_mean_of_its_tokens() -> None:
    """Alone, among others, asked or stored, met before or not: the tokens are those of the model's own tokenizer."""
    vectors, expected = WordVectors(), by_the_tokenizer(TEXTS)
    np.testing.assert_allclose(vectors.passages(TEXTS), expected, atol=1e-6)
    np.testing.assert_allclose(vectors.passages(TEXTS * 20), np.tile(expected, (20, 1)), atol=1e-6)
    np.testing.assert_allclose([vectors.question(text) for text in TEXTS], expected, atol=1e-6)


def test_the_words_of_a_large_document_are_not_looked_up_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile no other thread could run; the vectors are the same."""
    monkeypatch.setattr(embedding, "_TEXTS_AT_ONCE", 3)
    vectors, at_once, tokens = WordVectors(), list[int](), _Words.tokens

    def counted(self: _Words, words: list[str]) -> Any:
        at_once.append(len(words))
        return tokens(self, words)

    monkeypatch.setattr(_Words, "tokens", counted)
    texts = ["one two", "three", "four five six", "seven", "eight nine", "ten", "eleven twelve"]
    np.testing.assert_allclose(vectors.passages(texts), by_the_tokenizer(texts), atol=1e-6)
    assert at_once == [6, 4, 2]


def test_words_are_forgotten_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection of any size costs bounded memory, and no vector depends on what was forgotten."""
    monkeypatch.setattr(embedding, "_KNOWN_WORDS", 3)
    monkeypatch.setattr(embedding, "_QUESTIONS_WORDS", 3)
    vectors, expected = WordVectors(), by_the_tokenizer(TEXTS)
    for _ in range(2):
        np.testing.assert_allclose([vectors.passages([text])[0] for text in TEXTS], expected, atol=1e-6)
        np.testing.assert_allclose([vectors.question(text) for text in TEXTS], expected, atol=1e-6)
    assert len(vectors._words._numbers) <= 3 + max(len(text.split()) for text in TEXTS)
    assert vectors._words._known.cache_info().currsize == 3


def test_words_without_end_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As encoded data has them, and whoever wants to fill the memory: questions keep none, passages few."""
    monkeypatch.setattr(embedding, "_KNOWN_TOKENS", 100)
    vectors, long = WordVectors(), [f"{number}" + "xyz" * 50 for number in range(9)]
    for word in long:
        np.testing.assert_allclose(vectors.question(word), by_the_tokenizer([word])[0], atol=1e-6)
        np.testing.assert_allclose(vectors.passages([word]), by_the_tokenizer([word]), atol=1e-6)
    assert vectors._words._known.cache_info().currsize == 0
    assert len(vectors._words._tokens) <= 100 + 200


def test_a_text_that_cannot_be_encoded_fails_alone() -> None:
    """Half of a surrogate pair is no text; what is asked after it is answered."""
    vectors = WordVectors()
    with pytest.raises(UnicodeEncodeError):
        vectors.passages(["good", "bad \ud800"])
    np.testing.assert_allclose(vectors.passages(TEXTS), by_the_tokenizer(TEXTS), atol=1e-6)


class Wide:
    """An embedding of `width` dimensions, of which nothing else tells."""

    def __init__(self, width: int) -> None:
        self.width = width

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0] * self.width for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        return [1.0] * self.width


@pytest.mark.parametrize("changed", [False, True])
def test_an_index_of_other_vectors_is_made_again(folder: Path, open_service: Any, changed: bool) -> None:
    """A model that was replaced under its name: found out by a question, or by the first document that changed."""
    open_service(folder, embedding=Wide(4)).close()
    if changed:
        (folder / "new.txt").write_text("word")
    service: LocalService = open_service(folder, embedding=Wide(6))
    assert len(Asker(service).sources("volcano", num_results=9)) == 6 + changed
    assert service.stats.rebuilt == "made with vectors of 4 dimensions, now 6"


def test_an_embedding_that_changes_its_mind_is_told_of(
    folder: Path, open_service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The index is made again once and not at each question."""
    model = Wide(4)
    service: LocalService = open_service(folder, embedding=model)
    for model.width in (5, 6, 7):
        assert Asker(service).post({"question": "volcano", "numResults": 3})[0] == (200 if model.width == 5 else 500)
    assert caplog.text.count("index_rebuilt") == 1
    assert "embedding: its vectors have different lengths" in caplog.text


@pytest.mark.parametrize("given", [None, [], [[]] * 2, [1.0, 2.0], [[1.0]], [[1.0], [1.0, 2.0]], [["a"], ["b"]]])
def test_what_is_no_vector_per_text_is_a_configuration_error(given: Any) -> None:
    """Whatever else an embedding may give."""
    with pytest.raises(ConfigurationError, match="embedding: gave"):
        Injected(mock.Mock(embed_documents=lambda _: given)).passages(["one", "two"])


def test_a_folder_without_a_readable_document_asks_no_embedding(tmp_path: Path, open_service: Any) -> None:
    """It opens, names the file and answers that there is nothing."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "empty.txt").write_text(" ")
    service: LocalService = open_service(tmp_path / "docs", embedding=mock.Mock(embed_documents=lambda _: 1 / 0))
    assert service.skipped == [("empty.txt", "no text in it")]
