"""What a notebook shows of an answer, and what a hostile passage cannot make it show."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rage_retrievers._html import MOST_CHARACTERS, MOST_DOCUMENTS, document_html, retrieval_html
from rage_retrievers.models import Document, Retrieval

ATTACKS = [
    "<script>alert(1)</script>",
    "</div></div><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' style='position:fixed;inset:0",
    "<style>*{display:none}</style>",
    "<a href=javascript:alert(1)>click</a>",
    "javascript:alert(1)",
    "<iframe src=//evil.invalid></iframe>",
    "<!--", "]]>", "<![CDATA[", "&lt;script&gt;", "&#60;script&#62;",
    "<svg/onload=alert(1)>", "<mark>opening<script>", "\u202egnp.exe", "\x00<b>", "\ud800",
    "<math><mtext></p><script>alert(1)</script>", "${alert(1)}", "{{7*7}}", "<opening hours=1 onclick=alert(1)>",
]  # fmt: skip
TAGS = {"div", "b", "bdi", "span", "mark"}
ATTRIBUTES = {"style", "title", "dir"}


class Page(HTMLParser):
    """What a browser would see: tags, attributes, styles, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.styles: set[str] = set()
        self.text = ""
        self.marked: list[str] = []
        self.open: list[str] = []
        self.other: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.styles |= {value or "" for name, value in attrs if name == "style"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "mark":
            self.marked.append(data)

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    def handle_decl(self, decl: str) -> None:
        self.other.append(decl)

    def unknown_decl(self, data: str) -> None:
        self.other.append(data)

    def handle_pi(self, data: str) -> None:
        self.other.append(data)


def answer(*documents: Document, question: str = "When are the opening hours?", **facts: Any) -> Retrieval:
    return Retrieval(documents=documents, question=question, average_relevancy=0.48, ndcg=1).with_facts(**facts)


def everywhere(attack: str) -> Retrieval:
    """The attack in every field that a notebook shows."""
    document = Document.model_validate(
        {
            "text": f"Opening hours {attack} opening", "id": attack, "source": attack, "source_display_name": attack,
            "chunk_id": attack, "total_chunks": attack, "metadata": {attack: attack, "nested": {"deep": [attack]}},
            "relevancy": 0.5, "similarity": 0.7,
        }
    )  # fmt: skip
    return answer(document, question=f"opening {attack} hours", degraded=attack)


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_in_a_passage_becomes_markup(attack: str) -> None:
    """Whatever a field holds is shown as text: the page has our tags, our attributes and our styles alone."""
    harmless = Page(retrieval_html(everywhere("harmless")))
    page = Page(retrieval_html(everywhere(attack)))
    assert set(page.tags) <= TAGS
    assert page.attributes <= ATTRIBUTES
    assert page.styles <= harmless.styles
    assert (page.other, page.open) == ([], [])


@given(st.text(), st.text())
def test_any_text_is_shown_as_text(text: str, question: str) -> None:
    """The tags do not depend on the texts, but for marks and for what an empty text leaves out."""
    page = Page(retrieval_html(answer(Document(text=text, source=text), question=question)))
    assert set(page.tags) <= TAGS
    assert (page.other, page.open) == ([], [])
    page.text.encode()


def test_both_scores_are_bars_and_the_one_that_ordered_stands_out() -> None:
    """The bar is as long as the score, between 0 and 1; the score that ordered the list is bold."""
    document = Document(text="A passage.", relevancy=0.25, similarity=1.7)
    html = retrieval_html(answer(document, ordered_by="relevancy"))
    assert "width:25%" in html
    assert "width:100%" in html
    assert "<b>relevancy 0.25</b>" in html
    assert "<b>similarity" not in html
    assert "ordered by relevancy" in html


def test_a_score_that_is_absent_is_not_invented() -> None:
    """No bar where the service sent no number."""
    html = document_html(Document(text="A passage."))
    assert "relevancy" not in html
    assert "similarity" not in html


def test_the_source_is_the_file_name_with_its_path_at_hand() -> None:
    """A long path is a tooltip."""
    html = document_html(Document(text="A passage.", source_display_name="org/connector/report.pdf", chunk_id="3"))
    assert '<bdi title="org/connector/report.pdf">report.pdf</bdi>' in html
    assert "chunk 3" in html


def test_the_words_of_the_question_are_marked() -> None:
    """In any case and simple English form, as whole words; stop words are not."""
    document = Document(text="It opens at eight. Opening HOURS are in the hourglass; it is when the café opened.")
    page = Page(retrieval_html(answer(document, question="When are the opening hours of the Café?")))
    assert page.marked == ["opens", "Opening", "HOURS", "café", "opened"]


def test_long_answers_are_cut() -> None:
    """A notebook stays small: texts and lists have a bound, and the page says what is left out."""
    long = Document(text="word " * 10_000)
    html = retrieval_html(answer(*[long] * (MOST_DOCUMENTS + 7), question="word"))
    assert "and 7 more" in html
    assert len(html) < MOST_DOCUMENTS * MOST_CHARACTERS * 40


def test_an_old_or_degraded_answer_says_so() -> None:
    """What a fallback served does not look like the service's own answer."""
    html = retrieval_html(answer(stale=True, degraded="stale answer", attempts=3))
    assert "the service is down" in html
    assert "degraded: stale answer" in html
    assert "3 attempts" in html
    assert "no passages" in html


def test_metadata_of_the_user_is_shown() -> None:
    """Key by key, shortened; anything but a mapping is left out."""
    assert "year: 2024" in document_html(Document(text="A", metadata={"year": 2024}))
    assert document_html(Document(text="A", metadata=["x"])) == document_html(Document(text="A"))


def test_notebooks_ask_the_models() -> None:
    """Jupyter looks for `_repr_html_`."""
    document = Document(text="A passage.", similarity=0.5)
    assert document._repr_html_() == document_html(document)
    assert answer(document)._repr_html_() == retrieval_html(answer(document))
