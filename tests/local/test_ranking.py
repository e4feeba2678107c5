"""Ranking on a public test collection, where one is at hand: RAGE_TEST_IR names a directory of collections."""

from __future__ import annotations

import csv
import json
import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from .conftest import Asker

ROOT = Path(__file__).parents[2]
CRANFIELD = Path(os.environ.get("RAGE_TEST_IR") or ROOT.parent / "shared" / "ir") / "cranfield"


@pytest.mark.skipif(not (CRANFIELD / "qrels.tsv").is_file(), reason="no Cranfield collection at RAGE_TEST_IR")
def test_hybrid_with_reranking_reaches_its_bar_and_beats_text_alone(tmp_path: Path, open_service: Any) -> None:
    """nDCG@10 of at least 0.40 on Cranfield, as installed, and hybrid never below text."""
    folder = tmp_path / "cranfield"
    folder.mkdir()
    for document in _lines("corpus.jsonl"):
        text = f"{document.get('title', '')}\n{document['text']}"
        (folder / f"{document['_id']}.txt").write_text(text, encoding="utf-8")
    ask = Asker(open_service(folder, follow_seconds=60.0))
    judged = _judgements()
    asked = [query for query in _lines("queries.jsonl") if judged[query["_id"]]]

    def mean(rerank: bool, mode: str) -> float:
        found = (ask(q["text"], num_results=20, rerank=rerank, advanced={"mode": mode})["documents"] for q in asked)
        return math.fsum(_ndcg(one, judged[q["_id"]]) for one, q in zip(found, asked, strict=True)) / len(asked)

    text_alone, hybrid, reranked = mean(False, "text"), mean(False, "hybrid"), mean(True, "hybrid")
    assert reranked >= 0.40
    assert min(hybrid, reranked) >= text_alone


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CRANFIELD / name).read_text("utf-8").splitlines() if line]


def _judgements() -> dict[str, dict[str, int]]:
    judged: dict[str, dict[str, int]] = defaultdict(dict)
    with (CRANFIELD / "qrels.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if int(row["score"]) > 0:
                judged[row["query-id"]][row["corpus-id"]] = int(row["score"])
    return judged


def _ndcg(documents: list[dict[str, Any]], judged: dict[str, int]) -> float:
    """nDCG@10; a document counts where its best passage stands."""
    names = list(dict.fromkeys(one["source"].removesuffix(".txt") for one in documents))[:10]
    gain = sum(judged.get(name, 0) / math.log2(place + 2) for place, name in enumerate(names))
    best = sorted(judged.values(), reverse=True)[:10]
    return gain / sum(grade / math.log2(place + 2) for place, grade in enumerate(best))
