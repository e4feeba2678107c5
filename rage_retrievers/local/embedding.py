"""Turning text into unit vectors: the built-in WordLlama table, or the user's own embedding object."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rage_retrievers.errors import ConfigurationError

Vectors = NDArray[np.float32]
_KNOWN_WORDS = 50_000
_FEW_TEXTS = 32


class Embedding(Protocol):
    """One question or many passages in, unit vectors out (a zero vector for a text without any known token)."""

    identity: str
    """Names what made a vector; an index made under another identity is not reused."""
    weight: float
    """How much a cosine counts beside the words, which have the rest of 1."""

    def passages(self, texts: Sequence[str]) -> Vectors: ...

    def question(self, text: str) -> Vectors: ...


class WordVectors:
    """The mean of WordLlama's 256 dimensions over a text's tokens: 0.1 ms a question, no network, no torch.

    Reads the package's data files directly: importing the package starts logging, and its own loader wants a network
    in some versions and gives NaN for an empty text.
    """

    identity = "wordllama-l2-supercat-256/words"
    weight = 0.3

    def __init__(self) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        found = find_spec("wordllama")
        if found is None or found.origin is None:
            raise ConfigurationError('the word vectors are missing: pip install "rage-retrievers[local]"')
        home = Path(found.origin).parent
        self._table = load_file(str(home / "weights" / "l2_supercat_256.safetensors"))["embedding.weight"]
        self._tokenizer = Tokenizer.from_file(str(home / "tokenizers" / "l2_supercat_tokenizer_config.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._known: dict[str, bytes] = {}

    def passages(self, texts: Sequence[str]) -> Vectors:
        if len(texts) >= _FEW_TEXTS and self._table.dtype != np.float32:
            # Widening half floats is what takes the time, so whoever indexes widens the whole table once (33 MB).
            self._table = self._table.astype(np.float32)
        table = self._table
        vectors = np.zeros((len(texts), table.shape[1]), dtype=np.float32)
        for row, ids in enumerate(self._tokens([text.split() for text in texts])):
            if len(ids):
                vectors[row] = table.take(ids, axis=0).astype(np.float32, copy=False).sum(axis=0)
        return unit(vectors)

    def question(self, text: str) -> Vectors:
        row: Vectors = self.passages([text])[0]
        return row

    def _tokens(self, texts: list[list[str]]) -> Iterator[NDArray[np.int64]]:
        """The token ids of each text. No token of this vocabulary spans a space, so a word is encoded only once.

        A word's ids are kept as the bytes of an array: joining those takes half the time of making an array of a list.
        """
        known: Mapping[str, bytes] = self._known
        new = list(set().union(*texts).difference(known))
        encoded = self._tokenizer.encode_batch_fast(new, add_special_tokens=False) if new else []
        ids = (np.asarray(encoding.ids, dtype=np.int64).tobytes() for encoding in encoded)
        learnt = dict(zip(new, ids, strict=True))
        if len(known) < _KNOWN_WORDS:
            self._known.update(learnt)
        elif learnt:
            known = {**known, **learnt} if len(texts) >= _FEW_TEXTS else ChainMap(learnt, self._known)
        for words in texts:
            yield np.frombuffer(b"".join(map(known.__getitem__, words)), dtype=np.int64)


class Injected:
    """A LangChain `Embeddings` or a LlamaIndex `BaseEmbedding`, told apart by their methods."""

    # What six public collections gave for a small sentence encoder (MiniLM); the table of words is worth less.
    weight = 0.4

    def __init__(self, model: Any) -> None:
        if hasattr(model, "embed_documents") and hasattr(model, "embed_query"):
            self._passages, self._question = model.embed_documents, model.embed_query
        elif hasattr(model, "get_text_embedding_batch") and hasattr(model, "get_query_embedding"):
            self._passages, self._question = model.get_text_embedding_batch, model.get_query_embedding
        else:
            raise ConfigurationError(
                f"embedding: {type(model).__name__} has neither embed_documents and embed_query (LangChain) nor "
                "get_text_embedding_batch and get_query_embedding (LlamaIndex)"
            )
        name = next((str(v) for n in ("model_name", "model") if isinstance(v := getattr(model, n, None), str)), "")
        self.identity = f"{type(model).__module__}.{type(model).__qualname__}:{name}"

    def passages(self, texts: Sequence[str]) -> Vectors:
        made = np.asarray(self._passages(list(texts)), dtype=np.float32)
        if made.ndim != 2 or len(made) != len(texts):
            raise ConfigurationError(
                f"embedding: gave an array of shape {made.shape} for {len(texts)} texts; one vector per text is needed"
            )
        return unit(made)

    def question(self, text: str) -> Vectors:
        row: Vectors = unit(np.asarray([self._question(text)], dtype=np.float32))[0]
        return row


def unit(vectors: Vectors) -> Vectors:
    """Each row scaled to length 1; a zero or non-finite row becomes zero, so that no NaN ever reaches a score."""
    vectors = np.nan_to_num(vectors, nan=0.0, posinf=0.0, neginf=0.0)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return scaled


def choose(model: object | None) -> Embedding:
    """The built-in embedding for None, else the user's object; raises `ConfigurationError` for one of no known kind."""
    return _built_in() if model is None else Injected(model)


@lru_cache(maxsize=1)
def _built_in() -> WordVectors:
    """One table for every service of the process: it is only read."""
    return WordVectors()
