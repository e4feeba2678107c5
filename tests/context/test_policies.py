"""Policies: what they keep, and that a better passage never gives way to a worse one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rage_retrievers.context import (
    Budget,
    Deduplicate,
    Order,
    Passage,
    PerSource,
    Policy,
    Selection,
    Threshold,
    cite,
    estimate_tokens,
    passages,
    ranked,
    render,
    select,
)
from rage_retrievers.context.policies import Rank
from rage_retrievers.errors import ConfigurationError
from rage_retrievers.models import Document, Retrieval, ScoreName

SENTENCES = [
    "the bee dances",
    "The  Bee\ndances",
    "lava flows down",
    "lava flows down the hill",
    "tomatoes want sun",
    "",
]


@st.composite
def _passage(draw: st.DrawFn) -> Passage:
    kind: ScoreName | None = draw(st.sampled_from(["relevancy", "similarity", None]))
    score = draw(st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])))
    return Passage(
        text=draw(st.sampled_from(SENTENCES)) * draw(st.integers(1, 3)),
        id=str(draw(st.integers(0, 9))),
        score=score,
        ordered_by=kind if score is not None else None,
        source=draw(st.sampled_from(["a", "b", None])),
    )


lists = st.lists(_passage(), max_size=8)
policies: st.SearchStrategy[Policy] = st.one_of(
    st.builds(
        Threshold, relevancy=st.floats(0, 1), similarity=st.floats(0, 1), absent=st.sampled_from(["keep", "drop"])
    ),
    st.builds(Deduplicate, near=st.one_of(st.none(), st.floats(0.1, 1)), rank=st.sampled_from(["score", "position"])),
    st.builds(PerSource, st.integers(1, 3), rank=st.sampled_from(["score", "position"])),
    st.builds(Budget, st.integers(1, 60), style=st.sampled_from([None, "standard", "compact", "detailed"])),
)


def split_by(policy: Policy, given: Sequence[Passage]) -> tuple[list[Passage], list[Passage]]:
    """Who stayed and who went, by identity."""
    stayed = list(policy(given))
    return stayed, [one for one in given if not any(one is other for other in stayed)]


def beats(better: Passage, worse: Passage) -> bool:
    """Whether both have a number on the same scale, and the first one's is higher."""
    return bool(better.kind) and better.kind == worse.kind and (better.score or 0) > (worse.score or 0)


@given(lists, policies)
def test_policies_keep_the_order_and_invent_nothing(given: list[Passage], policy: Policy) -> None:
    """What is left is a part of what was given, the very same objects, in the same order."""
    rest = iter(given)
    assert all(any(one is other for other in rest) for one in policy(given))


@given(lists, st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_threshold_is_monotone_within_a_kind_and_blind_to_the_others(
    given: list[Passage], relevancy: float, similarity: float, score: float
) -> None:
    """No better passage of the same kind goes while a worse one stays, and each kind meets its own bar."""
    bars = {"relevancy": relevancy, "similarity": similarity, "score": score}
    stayed, gone = split_by(Threshold(relevancy, similarity, score), given)
    assert not any(beats(lost, kept) for lost in gone for kept in stayed)
    assert all(not one.kind or (one.score or 0.0) >= bars[one.kind] for one in stayed)
    assert all(one.kind and (one.score or 0.0) < bars[one.kind] for one in gone)


def test_relevancy_and_similarity_never_share_a_threshold() -> None:
    """A bar for one is no bar for the other."""
    one = passages([{"text": "a", "similarity": 0.2}])
    other = passages([{"text": "a", "relevancy": 0.2}])
    assert Threshold(relevancy=0.5)(one) == one
    assert Threshold(relevancy=0.5)(other) == []
    assert Threshold(similarity=0.5)(other) == other
    assert Threshold(similarity=0.5)(one) == []
    assert Threshold(similarity=0.2)(one) == one


def test_an_absent_score_passes_a_threshold_unless_told_otherwise() -> None:
    """A document whose score did not arrive still reaches the user."""
    given = passages(
        [{"text": "a", "relevancy": 0.9}, {"text": "b", "relevancy": None}, {"text": "c", "relevancy": "NaN"}]
    )
    assert [one.text for one in Threshold(relevancy=0.5)(given)] == ["a", "b", "c"]
    assert [one.text for one in Threshold(relevancy=0.5, absent="drop")(given)] == ["a"]


@given(lists, st.integers(1, 60), st.sampled_from([None, "standard", "detailed", "compact"]))
def test_a_budget_never_drops_a_better_passage_for_a_worse_one(given: list[Passage], tokens: int, style: Any) -> None:
    """Nor does a smaller one slip in behind a larger one that did not fit."""
    stayed, gone = split_by(Budget(tokens, style=style), given)
    assert not any(beats(lost, kept) for lost in gone for kept in stayed)
    if style is None:
        assert sum(estimate_tokens(one.text) for one in stayed) <= tokens
    elif stayed:
        assert estimate_tokens(render(stayed, style)) <= tokens


@given(lists, st.integers(1, 60))
def test_a_budget_is_used_as_far_as_the_rank_allows(given: list[Passage], tokens: int) -> None:
    """What stays is the longest beginning of the ranking that fits, and a larger budget keeps no less."""
    stayed = Budget(tokens)(given)
    best = ranked(given)
    assert {id(one) for one in stayed} == {id(one) for one in best[: len(stayed)]}
    if len(stayed) < len(best):
        assert sum(estimate_tokens(one.text) for one in best[: len(stayed) + 1]) > tokens
    assert len(Budget(tokens + 5)(given)) >= len(stayed)


@pytest.mark.parametrize("style", ["standard", "compact"])
def test_a_budget_counts_the_longer_numbers_of_a_longer_list(style: Any) -> None:
    """Whatever number a passage gets in the end, it fits."""
    given = passages([{"text": "x"}] * 12)
    for tokens in range(1, len(render(given, style)) + 20):
        stayed = Budget(tokens, count=len, style=style)(given)
        assert not stayed or len(render(stayed, style)) <= tokens


def test_a_budget_counts_with_the_callers_own_counter() -> None:
    """Words, here; any tokenizer's count fits."""
    given = passages([{"text": "one two three"}, {"text": "four five"}, {"text": "six"}])
    assert [one.text for one in Budget(5, count=lambda text: len(text.split()))(given)] == [
        "one two three",
        "four five",
    ]
    assert Budget(2, count=lambda text: len(text.split()))(given) == []


@given(lists, st.sampled_from([None, 0.3, 0.8, 1.0]))
def test_of_duplicates_the_best_stays(given: list[Passage], near: float | None) -> None:
    """Every passage that goes leaves one with the same text, or nearly, that it does not beat."""
    stayed, gone = split_by(Deduplicate(near), given)
    texts = [" ".join(one.text.casefold().split()) for one in stayed]
    assert len(texts) == len(set(texts))
    for lost in gone:
        same = [
            kept for kept, text in zip(stayed, texts, strict=True) if text == " ".join(lost.text.casefold().split())
        ]
        if near is None:
            assert same
        assert not any(beats(lost, kept) for kept in same)


@pytest.mark.parametrize(
    ("texts", "near", "left"),
    [
        (["A b", "a  B", "a b c"], None, 2),
        (["ﬁne", "FINE"], None, 1),
        (["１２", "12"], None, 1),
        (["a b c d e f g h", "a b c d e f g x"], None, 2),
        (["a b c d e f g h", "a b c d e f g x"], 0.7, 1),
        (["a b c d e f g h", "a b c d e f g x"], 0.8, 2),
        (["a b c d, e f g h!", "a b c d e f g h"], 1.0, 1),
        (["a", "b", ""], 0.1, 3),
        (["?", "!"], 0.1, 2),
        (["Bees dance!", "bees dance"], 1.0, 1),
        (["東京は日本の首都です", "東京は日本の首都でした"], 0.6, 1),
        (["東京は日本の首都です", "大阪は商業の町です"], 0.6, 2),
    ],
)
def test_what_counts_as_a_duplicate(texts: list[str], near: float | None, left: int) -> None:
    """Letter case, width and white space never matter; punctuation and a few words only with `near`."""
    assert len(Deduplicate(near)(passages([{"text": text} for text in texts]))) == left


@pytest.mark.parametrize(("shingle", "left"), [(1, 1), (2, 2)])
def test_runs_of_one_word_know_no_order(shingle: int, left: int) -> None:
    """The longer the runs that are compared, the more of the order counts."""
    assert len(Deduplicate(1.0, shingle)(passages([{"text": "a b c"}, {"text": "c b a"}]))) == left


@given(lists, st.integers(1, 3))
def test_each_source_keeps_its_best(given: list[Passage], most: int) -> None:
    """At most so many of each, never a worse one of the same source for a better one, and unknown sources all stay."""
    stayed, gone = split_by(PerSource(most), given)
    assert all(sum(one.source == source for one in stayed) <= most for source in ("a", "b"))
    assert all(one.source is not None for one in gone)
    assert all(sum(kept.source == lost.source for kept in stayed) == most for lost in gone)
    assert not any(beats(lost, kept) and lost.source == kept.source for lost in gone for kept in stayed)


@given(lists)
def test_ranking_puts_each_kind_in_order_and_moves_nothing_else(given: list[Passage]) -> None:
    """Numbers on different scales are not compared; what has none stays where it was; equals keep their order."""
    best = ranked(given)
    assert [one.kind for one in best] == [one.kind for one in given]
    for kind in ("relevancy", "similarity", "score"):
        of_kind = [one for one in given if one.kind == kind]
        assert [one for one in best if one.kind == kind] == sorted(of_kind, key=lambda one: -(one.score or 0))
    assert all(one is other for one, other in zip(best, given, strict=True) if not other.kind)
    assert ranked(given, "position") == given


@given(lists, st.sampled_from(["score", "position"]))
def test_both_ends_puts_the_weakest_in_the_middle(given: list[Passage], rank: Rank) -> None:
    """Read from both ends inwards, it is the ranking."""
    best = Order("best_first", rank)(given)
    ends = Order("both_ends", rank)(given)
    assert best == ranked(given, rank)
    inwards = [ends.pop(0 if turn % 2 == 0 else -1) for turn in range(len(given))]
    assert inwards == best


def test_both_ends_by_example() -> None:
    """1 3 5 4 2."""
    given = passages([{"text": str(number), "relevancy": 1 - number / 10} for number in range(1, 6)])
    assert [one.text for one in Order("both_ends")(given)] == ["1", "3", "5", "4", "2"]


@given(lists, st.lists(policies, max_size=4))
def test_a_selection_accounts_for_every_passage(given: list[Passage], chain: list[Policy]) -> None:
    """Kept or dropped, and by whom; nothing gets lost between the policies."""
    chosen = select(given, *chain, Order("both_ends"))
    places = [one.position for one in chosen.passages] + [dropped.passage.position for dropped in chosen.dropped]
    assert sorted(places) == list(range(len(given)))
    assert {dropped.by for dropped in chosen.dropped} <= {"Threshold", "Deduplicate", "PerSource", "Budget"}


@given(lists, policies)
def test_policies_are_idempotent(given: list[Passage], policy: Policy) -> None:
    """Applying one twice drops nothing more, but for a budget that counts a shorter list's numbers."""
    once = policy(given)
    assert list(policy(once)) == list(once)


def test_a_whole_selection_from_retrieval_to_originals() -> None:
    """A retrieval goes in, its own documents come out, and what went is told with the reason."""
    documents = [
        Document(text="Bees dance.", id="1", relevancy=0.9, source="a"),
        Document(text="bees  dance.", id="2", relevancy=0.8, source="b"),
        Document(text="Bees sting.", id="3", relevancy=0.7, source="a"),
        Document(text="Bees hum.", id="4", relevancy=0.6, source="a"),
        Document(text="Lava.", id="5", relevancy=0.1, source="c"),
    ]
    retrieval = Retrieval(documents=tuple(documents)).with_facts(ordered_by="relevancy")
    chosen = select(retrieval, Threshold(relevancy=0.5), Deduplicate(), PerSource(2), Budget(100), Order("both_ends"))
    assert chosen.originals == [documents[0], documents[2]]
    assert [(dropped.passage.id, dropped.by) for dropped in chosen.dropped] == [
        ("5", "Threshold"),
        ("2", "Deduplicate"),
        ("4", "PerSource"),
    ]
    assert [citation.id for citation in cite(chosen.passages)] == ["1", "3"]


def test_a_function_is_a_policy_too() -> None:
    """What `by` shows is its name."""

    def short(given: Sequence[Passage]) -> list[Passage]:
        return [one for one in given if len(one.text) < 3]

    chosen = select([{"text": "long"}, {"text": "ok"}], short)
    assert [one.text for one in chosen.passages] == ["ok"]
    assert [dropped.by for dropped in chosen.dropped] == ["short"]
    assert select([]) == Selection(())


def test_a_selection_may_be_told_which_score_ordered_the_list() -> None:
    """Where the list does not say so."""
    given = [{"text": "t", "relevancy": 0.9, "similarity": 0.2}]
    assert select(given, Threshold(similarity=0.5), ordered_by="similarity").passages == ()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Threshold(relevancy=math.nan),
        lambda: Threshold(similarity="0.5"),  # type: ignore[arg-type]
        lambda: Threshold(score=True),
        lambda: Threshold(score=10**400),
        lambda: Threshold(absent="maybe"),  # type: ignore[arg-type]
        lambda: Deduplicate(near=0),
        lambda: Deduplicate(near=1.5),
        lambda: Deduplicate(near="0.9"),  # type: ignore[arg-type]
        lambda: Deduplicate(shingle=0),
        lambda: PerSource(0),
        lambda: PerSource(True),
        lambda: Budget(0),
        lambda: Budget(10.5),  # type: ignore[arg-type]
        lambda: Budget(10, count=5),  # type: ignore[arg-type]
        lambda: Budget(10, style="fancy"),  # type: ignore[arg-type]
        lambda: Budget(10, style=""),  # type: ignore[arg-type]
        lambda: Order("random"),  # type: ignore[arg-type]
        lambda: PerSource(1, rank="luck"),  # type: ignore[arg-type]
        lambda: Deduplicate(rank="luck"),  # type: ignore[arg-type]
        lambda: Budget(10, rank="luck"),  # type: ignore[arg-type]
        lambda: Order(rank="luck"),  # type: ignore[arg-type]
    ],
)
def test_an_option_that_means_nothing_is_refused_when_made(make: Callable[[], object]) -> None:
    """With the policy, the option, its value and a remedy."""
    with pytest.raises(ConfigurationError, match="cannot be used"):
        make()


@pytest.mark.parametrize(
    ("given", "said"),
    [(Deduplicate, r"Deduplicate is a class; give a policy"), ("dedup", "policies holds a str, which is no policy")],
)
def test_what_is_no_policy_is_refused(given: Any, said: str) -> None:
    """Also where there is no passage for it yet."""
    with pytest.raises(ConfigurationError, match=said):
        select([], given)


def test_near_duplicates_of_many_passages_stay_cheap() -> None:
    """A hundred long passages are compared well within the time of one request."""
    import time

    texts = [" ".join(f"w{(i * 7 + j) % 997}" for j in range(400)) for i in range(100)]
    begin = time.process_time()
    assert len(Deduplicate(near=0.9)(passages([{"text": text} for text in texts]))) > 1
    assert time.process_time() - begin < 5


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("abcd", 1), ("abcde", 2), ("東京", 2), ("é", 1), ("🙂🙂", 2)])
def test_the_estimate_of_tokens(text: str, tokens: int) -> None:
    """A quarter of the ASCII characters, and every other one whole."""
    assert estimate_tokens(text) == tokens


@pytest.mark.parametrize("given", [5, ["relevancy"], "score", ""])
def test_an_order_by_no_score_is_refused(given: Any) -> None:
    """With the two that there are."""
    for ask in (passages, cite, select):
        with pytest.raises(
            ConfigurationError, match=r"ordered_by = .* use (relevancy or similarity|similarity or rel)"
        ):
            ask([Document(text="a")], ordered_by=given)


def test_only_passages_are_ranked() -> None:
    """A document does not say by which of its scores."""
    with pytest.raises(ConfigurationError, match="was given a Document"):
        ranked([Document(text="a")])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="rank = 'best' cannot be used; use 'score' or 'position'"):
        ranked([], "best")  # type: ignore[arg-type]
