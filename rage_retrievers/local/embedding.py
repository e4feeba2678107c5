"""Turning text into unit vectors: the built-in WordLlama table, or the user's own embedding object."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import chain, count, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rage_retrievers.errors import ConfigurationError

if TYPE_CHECKING:
    from tokenizers.models import Model

Vectors = NDArray[np.float32]
_KNOWN_WORDS = 200_000  # each takes about 200 bytes
_KNOWN_TOKENS = 2_000_000  # of words without end, as encoded data has them
_QUESTIONS_WORDS = 10_000
_LONG_WORD = 64  # in characters: longer ones are seldom said again, and together would take any memory
_FEW_TEXTS = 32
_TEXTS_AT_ONCE = 512  # looking up the words of these lets no other thread run for some milliseconds


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
        tokenizer = Tokenizer.from_file(str(home / "tokenizers" / "l2_supercat_tokenizer_config.json"))
        self._words = _Words(tokenizer.model)

    def passages(self, texts: Sequence[str]) -> Vectors:
        if len(texts) >= _FEW_TEXTS and self._table.dtype != np.float32:
            # Widening half floats is what takes the time, so whoever indexes widens the whole table once (33 MB).
            self._table = self._table.astype(np.float32)
        vectors = np.zeros((len(texts), self._table.shape[1]), dtype=np.float32)
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = slice(start, start + _TEXTS_AT_ONCE)
            self._sum(texts[part], vectors[part])
        return unit(vectors)

    def _sum(self, texts: Sequence[str], sums: Vectors) -> None:
        table = self._table
        words = [text.split() for text in texts]
        tokens, ends = self._words.tokens(list(chain.from_iterable(words)))
        bounds = np.concatenate(([0], ends))[np.cumsum([0, *map(len, words)])]
        room = np.empty((int(np.diff(bounds).max(initial=0)), table.shape[1]), dtype=table.dtype)
        for row, (start, end) in enumerate(pairwise(bounds.tolist())):
            # Told to check no bounds (every id is one of a row), numpy fills the same memory each time.
            rows = table.take(tokens[start:end], axis=0, out=room[: end - start], mode="clip")
            rows.astype(np.float32, copy=False).sum(axis=0, out=sums[row])

    def question(self, text: str) -> Vectors:
        tokens = self._words.of_few(text.split())
        row: Vectors = self._table.take(tokens, axis=0).astype(np.float32, copy=False).sum(axis=0)
        length = math.sqrt(np.vecdot(row, row))  # the table is finite, so `unit` would find nothing else to do
        return row / np.float32(length) if length else row


class _Words:
    """The token ids of the words met. No token of this vocabulary spans a space, so a word is encoded only once."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._known = lru_cache(maxsize=_QUESTIONS_WORDS)(self._encoded)
        self._forget()

    def of_few(self, words: Sequence[str]) -> NDArray[np.intp]:
        """The token ids of all words one after the other, those of a question: it waits for nobody who indexes."""
        ids = (self._known(word) if len(word) <= _LONG_WORD else self._encoded(word) for word in words)
        return np.fromiter(chain.from_iterable(ids), dtype=np.intp)

    def _encoded(self, word: str) -> tuple[int, ...]:
        # What the tokenizer around the model adds is this mark of a word's beginning, and takes twice as long for it.
        return tuple([token.id for token in self._model.tokenize("\u2581" + word)])

    def _forget(self) -> None:
        self._numbers = defaultdict[str, int](count().__next__)
        self._tokens, self._starts, self._lengths = (np.zeros(0, dtype=np.intp) for _ in range(3))

    def tokens(self, words: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The token ids of all words one after the other, and where those of each word end."""
        with self._lock:
            if len(self._numbers) > _KNOWN_WORDS or len(self._tokens) > _KNOWN_TOKENS:
                self._forget()
            # A word that is met for the first time gets the next number.
            numbers = np.fromiter(map(self._numbers.__getitem__, words), dtype=np.intp, count=len(words))
            try:
                if len(self._numbers) > len(self._lengths):
                    self._learn(list(islice(self._numbers, len(self._lengths), None)))
            except BaseException:  # numbers given and nothing learnt: nobody could be answered from now on
                self._forget()
                raise
            lengths = self._lengths[numbers]
            ends = lengths.cumsum()
            places = (self._starts[numbers] - ends + lengths).repeat(lengths)
            places += np.arange(len(places))
            return self._tokens[places], ends

    def _learn(self, words: Sequence[str]) -> None:
        # One list, for the garbage collector would look through all of the process after some thousands of them.
        ids: list[int] = []
        ends: list[int] = []
        for word in words:
            ids += self._encoded(word)
            ends.append(len(ids))
        lengths = np.diff(np.asarray(ends, dtype=np.intp), prepend=0)
        starts = len(self._tokens) + np.asarray(ends, dtype=np.intp) - lengths
        self._tokens = np.concatenate((self._tokens, np.asarray(ids, dtype=np.intp)))
        self._starts = np.concatenate((self._starts, starts))
        self._lengths = np.concatenate((self._lengths, lengths))


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
        if not texts:  # nobody is asked, for many would answer in a form of their own
            return np.zeros((0, 0), dtype=np.float32)
        return _made(self._passages(list(texts)), len(texts))

    def question(self, text: str) -> Vectors:
        row: Vectors = _made([self._question(text)], 1)[0]
        return row


def _made(given: object, count: int) -> Vectors:
    """Unit vectors of what an embedding gave; raises `ConfigurationError` unless it is one vector for each text."""
    try:
        vectors = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"embedding: gave what is no list of vectors of one length ({error})") from error
    if vectors.ndim != 2 or len(vectors) != count or not vectors.size:
        raise ConfigurationError(
            f"embedding: gave an array of shape {vectors.shape} for {count} texts; one vector per text is needed"
        )
    return unit(vectors)


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
