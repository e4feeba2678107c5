"""BM25 over passages, in tantivy; made from the store, checked when opened, and thrown away when in doubt.

The index lives in a directory of its own name, so that a rebuilt one replaces it in one step and readers of the old one
are never disturbed.
"""

from __future__ import annotations

import json
import math
import shutil
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from rage_retrievers._frozen import frozen
from rage_retrievers.local import analysis
from rage_retrievers.local._damage import is_panic
from rage_retrievers.local.embedding import Vectors

if TYPE_CHECKING:
    from tantivy import Document, Index, IndexWriter, Query, Searcher

P = ParamSpec("P")
T = TypeVar("T")
Numbers = NDArray[np.int64]
FIELDS = ("text", "title", "source")
_LIST = "meta.json"  # of the files; the only one that is ever written again
_HEAP_BYTES = 64_000_000
# Tantivy's BM25 has k1 = 1.2, so a term repeated for ever approaches idf * (k1 + 1).
_SATURATION = 2.2
# A set query walks through the numbers of all passages; up to here one query per number takes less (2 µs each).
_ONE_BY_ONE = 1_500
# A search for pairs holds a list open for each pair and name.
_PAIRS_TIMES_NAMES = 2_000


class TextIndexError(Exception):
    """Tantivy failed, in any of its ways; its files may have been altered since they were opened, or they may not."""


class CorruptIndexError(TextIndexError):
    """The files of a text index are not those that were written."""


def _told(work: Callable[P, T]) -> Callable[P, T]:
    """Whatever it raises is a `TextIndexError`."""

    @wraps(work)
    def done(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return work(*args, **kwargs)
        except BaseException as error:
            if isinstance(error, Exception) or is_panic(error):
                raise TextIndexError(f"{type(error).__name__}: {error}") from error
            raise

    return done


@frozen
class TextQuery:
    """A question for the text index.

    `terms` are weighted terms; `fields` names with boosts; `match` one of match, match_phrase, multi_match; `phrase`
    the question's terms with their positions.
    """

    terms: tuple[tuple[str, float], ...]
    fields: tuple[tuple[str, float], ...] = (("text", 1.0),)
    match: str = "match"
    phrase: tuple[tuple[int, str], ...] = ()


class TextIndex:
    """One tantivy index on disk: `writing` for one writer, `view` for readers."""

    def __init__(self, directory: Path) -> None:
        """The one that is there; raises `CorruptIndexError` where none is."""
        from tantivy import Index

        self.directory = directory
        self._schema = _schema()
        try:
            self._index: Index = Index.open(str(directory))
        except (ValueError, OSError) as error:
            raise CorruptIndexError(str(error)) from error
        self._index.register_tokenizer(analysis.ANALYZER, analysis.analyzer())

    @classmethod
    def made(cls, directory: Path) -> TextIndex:
        """A new one, of no passages."""
        from tantivy import Index

        directory.mkdir(parents=True)
        Index(_schema(), path=str(directory))
        return cls(directory)

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """Passages to add and remove, by one writer at a time; what is not committed at the end never was."""
        writing = Writing(self._index)
        try:
            yield writing
        finally:
            writing.end()

    def is_there(self) -> bool:
        """Whether nobody has removed it, which those who read it do not notice."""
        return (self.directory / _LIST).exists()

    @_told
    def view(self) -> TextView:
        """The index as it is now; later writes do not change it."""
        self._index.reload()
        return TextView(self._index.searcher(), self._schema)

    @staticmethod
    def manifest(directory: Path, before: str = "") -> str:
        """Sizes and checksums of the files of the index, to be kept and given to `verify`.

        Raises `CorruptIndexError` for a file that is not as it was in the manifest `before`: no writing alters one.
        """
        known = json.loads(before) if before else {}
        found = {path.name: _signature(path) for path in _files(directory)}
        for name, signature in found.items():
            if name != _LIST and known.get(name, signature) != signature:
                raise CorruptIndexError(f"{name} is not what was written")
        return json.dumps(found)

    @staticmethod
    def verify(directory: Path, manifest: str) -> None:
        """Raise `CorruptIndexError` unless every file is as it was when `manifest` was made."""
        try:
            known = json.loads(manifest)
        except ValueError as error:
            raise CorruptIndexError("no record of its files") from error
        for name, signature in known.items():
            path = directory / name
            if not path.is_file() or _signature(path) != signature:
                raise CorruptIndexError(f"{name} is not what was written")


class Writing:
    """Passages on their way into the index: taken in by a thread of tantivy's as they come, seen after `commit`."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._writer: IndexWriter | None = None
        self.last = 0
        """The number of the passage added last, 0 when none was."""

    def add(self, new: Iterable[tuple[int, str, str, str, str]]) -> None:
        """Add passages: number, text, title, source, metadata as JSON."""
        from tantivy import Document

        for n, text, title, source, metadata in new:
            document = Document(text=text, title=title, source=source)
            document.add_integer("n", n)
            document.add_json("metadata", metadata)
            self._add(document)
            self.last = n

    @_told
    def _add(self, document: Document) -> None:
        self._begun().add_document(document)

    @_told
    def commit(self, gone: Iterable[int]) -> None:
        """Remove the passages that are gone, and make all of it seen."""
        for n in gone:
            self._begun().delete_documents_by_term("n", n)
        self._begun().commit()
        self._begun().wait_merging_threads()
        self.end()
        self._index.reload()

    def end(self) -> None:
        """Leave the index to the next writer, without what was not committed."""
        self._writer = None

    def _begun(self) -> IndexWriter:
        if self._writer is None:
            self._writer = self._index.writer(_HEAP_BYTES, 1)
        return self._writer


class TextView:
    """A point in time of a text index; safe to share between threads."""

    def __init__(self, searcher: Searcher, schema: Any) -> None:
        self._searcher = searcher
        self._schema = schema
        self.count = searcher.num_docs

    @_told
    def search(self, query: TextQuery, limit: int, within: Sequence[int] | None = None) -> tuple[Numbers, Vectors]:
        """The best `limit` passages as (numbers, BM25 scores), best first; only those in `within` when given."""
        built = self._build(query)
        if built is None or limit < 1 or (within is not None and not len(within)):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        return self._collect(built if within is None else self._restrict(built, within), limit)

    def _collect(self, query: Query, limit: int) -> tuple[Numbers, Vectors]:
        hits = self._searcher.search(query, limit, count=False).hits
        numbers = self._searcher.fast_field_values("n", [address for _, address in hits])
        scores = [float(score) for score, _ in hits]
        return np.asarray(numbers, dtype=np.int64), np.asarray(scores, dtype=np.float32)

    @_told
    def pairs(self, pairs: Sequence[tuple[str, str]], within: Sequence[int]) -> Vectors:
        """How many of the pairs of neighbouring terms each passage in `within` holds, in that order."""
        from tantivy import Occur, Query

        named = (Occur.Must, self._named(within))
        held: dict[int, float] = dict.fromkeys(within, 0)
        at_once = max(_PAIRS_TIMES_NAMES // max(len(within), 1), 1)
        for start in range(0, len(pairs), at_once):
            parts = []
            for pair in pairs[start : start + at_once]:
                # The names in each part: a union of phrases would look for each of them in the whole collection.
                phrase = Query.phrase_query(self._schema, "text", list(pair), 1)
                both = Query.boolean_query([(Occur.Must, phrase), named])
                parts.append((Occur.Should, Query.const_score_query(both, 1.0)))
            numbers, counts = self._collect(Query.boolean_query(parts), len(within))
            for n, count in zip(numbers.tolist(), counts.tolist(), strict=True):
                held[n] += count
        return np.asarray([held[n] for n in within], dtype=np.float32)

    @_told
    def bound(self, query: TextQuery) -> float:
        """A score that no passage can exceed, so that score / bound is comparable between questions."""
        total = 0.0
        for field, boost in query.fields:
            for term, weight in query.terms:
                frequency = self._searcher.doc_freq(field, term)
                idf = math.log(1 + (max(self.count - frequency, 0) + 0.5) / (frequency + 0.5))
                total += idf * _SATURATION * weight * boost
        return total

    def _build(self, query: TextQuery) -> Query | None:
        from tantivy import Occur, Query

        fields = [(self._field(query, name), boost) for name, boost in query.fields]
        found = [(built, boost) for built, boost in fields if built is not None]
        boosted = [Query.boost_query(built, boost) if boost != 1.0 else built for built, boost in found]
        if not boosted:
            return None
        if len(boosted) == 1:
            return boosted[0]
        if query.match == "multi_match":
            return Query.disjunction_max_query(boosted)
        return Query.boolean_query([(Occur.Should, part) for part in boosted])

    def _field(self, query: TextQuery, field: str) -> Query | None:
        from tantivy import Occur, Query

        if query.match == "match_phrase":
            if len(query.phrase) > 1 and field in FIELDS:
                return Query.phrase_query(self._schema, field, list(query.phrase))
            if len(query.phrase) > 1:  # below a JSON field tantivy takes words without positions
                return Query.phrase_query(self._schema, field, [word for _, word in query.phrase])
            return Query.term_query(self._schema, field, query.phrase[0][1]) if query.phrase else None
        parts = [
            (Occur.Should, Query.boost_query(Query.term_query(self._schema, field, term), weight))
            for term, weight in query.terms
        ]
        return Query.boolean_query(parts) if parts else None

    def _restrict(self, query: Query, within: Sequence[int]) -> Query:
        from tantivy import Occur, Query

        return Query.boolean_query([(Occur.Must, query), (Occur.Must, self._named(within))])

    def _named(self, within: Sequence[int]) -> Query:
        from tantivy import Occur, Query

        if len(within) > _ONE_BY_ONE:
            named = Query.term_set_query(self._schema, "n", list(within))
        else:
            named = Query.boolean_query([(Occur.Should, Query.term_query(self._schema, "n", n)) for n in within])
        return Query.const_score_query(named, 0.0)


def weigh(terms: Iterable[str], weight: float = 1.0) -> dict[str, float]:
    """Terms with weights; a term that is repeated counts as often as it is said."""
    weighed: dict[str, float] = defaultdict(float)
    for term in terms:
        weighed[term] += weight
    return weighed


def discard(directory: Path) -> None:
    """Remove a text index; what cannot be removed now (open on Windows) stays unused."""
    shutil.rmtree(directory, ignore_errors=True)


def _files(directory: Path) -> list[Path]:
    # Tantivy's list of its files grows before a commit, and serves only to remove those that are no longer used.
    left_out = (".managed.json", ".tantivy-meta.lock", ".tantivy-writer.lock")
    return [path for path in sorted(directory.iterdir()) if path.is_file() and path.name not in left_out]


def _signature(path: Path) -> list[int]:
    crc = size = 0
    for block in _read_blocks(path):
        crc = zlib.crc32(block, crc)
        size += len(block)
    return [size, crc]


def _read_blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block


def _schema() -> Any:
    from tantivy import SchemaBuilder

    builder = SchemaBuilder()
    builder.add_integer_field("n", indexed=True, fast=True)
    for name in FIELDS:
        builder.add_text_field(name, tokenizer_name=analysis.ANALYZER, index_option="position")
    builder.add_json_field("metadata", tokenizer_name=analysis.ANALYZER, index_option="position")
    return builder.build()
