"""The built-in vectors: the mean of a text's tokens, whatever was read before it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from rage_retrievers.local import embedding
from rage_retrievers.local.embedding import WordVectors

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


def test_words_are_forgotten_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection of any size costs bounded memory, and no vector depends on what was forgotten."""
    monkeypatch.setattr(embedding, "_KNOWN_WORDS", 3)
    vectors, expected = WordVectors(), by_the_tokenizer(TEXTS)
    for _ in range(2):
        np.testing.assert_allclose([vectors.question(text) for text in TEXTS], expected, atol=1e-6)


def test_a_text_that_cannot_be_encoded_fails_alone() -> None:
    """Half of a surrogate pair is no text; what is asked after it is answered."""
    vectors = WordVectors()
    with pytest.raises(UnicodeEncodeError):
        vectors.passages(["good", "bad \ud800"])
    np.testing.assert_allclose(vectors.passages(TEXTS), by_the_tokenizer(TEXTS), atol=1e-6)
