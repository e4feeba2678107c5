"""`rage ask`: the passages of a pipeline, for people and for programs."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from rage_retrievers.cli.options import metadata_filters
from rage_retrievers.cli.passages import excerpt
from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local import LocalServer, LocalService

from .conftest import TOKEN, Run


def test_passages_come_with_rank_score_and_source(run: Run, folder: Path) -> None:
    """Each passage shows its score, its document and what it says, within 80 columns."""
    ended = run("ask", "Where are the flowers?", "--base-url", f"local:{folder}", "-k", "1")
    assert ended.code == 0
    first = ended.out.splitlines()[0]
    assert first.split()[0] == "1"
    assert 0 < float(first.split()[1]) < 1
    assert first.split()[2] == "bees.txt"
    assert "Honey bees dance" in ended.out
    assert "1 passage by similarity" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_an_empty_folder_is_bad_input(run: Run, tmp_path: Path, form: tuple[str, ...]) -> None:
    """No passages are found there, whatever the question; what is read is named, and so is what could not be."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    ended = run("ask", "bees", "--base-url", f"local:{tmp_path / 'docs'}", *form)
    assert ended.code == 2
    told = ended.err.splitlines()
    assert told[0].startswith("skipped broken.pdf: ")
    assert told[-1].endswith("docs holds no .md, .txt, .html, .pdf or .docx file that can be read.")
    assert "no passages" not in ended.out


def test_what_is_skipped_is_told_off_a_terminal_too(run: Run, folder: Path) -> None:
    """On stderr, so that the answer stays the answer."""
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    ended = run("ask", "bees", "--base-url", f"local:{folder}", "--json")
    assert (ended.code, len(ended.json()["documents"])) == (0, 3)
    assert ended.err.startswith("skipped broken.pdf: ")


def test_settings_say_which_service_is_asked(run: Run, where: LocalServer) -> None:
    """Without options the environment's address, ids and token are used, over real HTTP."""
    answer = run("ask", "bees", "--json").json()
    assert answer["documents"][0]["source"] == "bees.txt"
    assert answer["attempts"] == 1
    assert answer["ordered_by"] == "similarity"


def test_every_knob_reaches_the_service(run: Run, where: LocalServer) -> None:
    """-k, --rerank, --filter, --mode and --min-score shape the answer."""

    def sources(*words: str) -> list[str]:
        ended = run("ask", "tomatoes and bees", "--json", *words)
        assert ended.code == 0, ended.err
        return sorted(document["source"] for document in ended.json()["documents"])

    assert len(sources("-k", "2")) == 2
    assert sources("--filter", "year=2024") == ["bees.txt"]
    assert sources("--filter", "year=2024", "--filter", "year=2023") == ["bees.txt", "tomatoes.md"]
    assert sources("--filter", "year=2024", "--filter", "kind=plant") == []
    assert sources("--mode", "text") == ["bees.txt", "tomatoes.md"]
    assert sources("--min-score", "0.99") == []
    assert run("ask", "bees", "--rerank", "--json").json()["ordered_by"] == "relevancy"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("  ",), "question"),
        (("q", "-k", "0"), "num_results"),
        (("q", "--mode", "fuzzy"), "mode"),
        (("q", "--filter", "year"), "--filter 'year'"),
        (("q", "--timeout", "-1"), "timeout"),
    ],
)
def test_what_cannot_be_asked_is_named(run: Run, where: LocalServer, words: tuple[str, ...], named: str) -> None:
    """A wrong value is exit code 2 and one line that names it."""
    ended = run("ask", *words)
    assert ended.code == 2
    assert named in ended.err
    assert ended.err.count("\n") == 1


def test_a_document_cannot_steer_the_terminal(run: Run, folder: Path) -> None:
    """Escape sequences inside a passage are not sent to the terminal, nor is its text read as markup."""
    (folder / "evil.txt").write_text("zebra \x1b[2J\x9b31m [bold]stripes[/nope] \u202e end")
    ended = run("ask", "zebra stripes", "--base-url", f"local:{folder}", "-k", "1")
    assert ended.code == 0
    assert "[bold]stripes[/nope]" in ended.out
    assert not set("\x1b\x9b\u202e") & set(ended.out)


def test_the_token_is_never_shown(run: Run, where: LocalServer) -> None:
    """Neither answers nor errors hold the token."""
    for words in (("bees",), ("bees", "--json"), ("bees", "--pipeline", "nobody"), ("bees", "-k", "0")):
        ended = run("ask", *words)
        assert TOKEN not in ended.out + ended.err


def test_a_service_that_quotes_the_token_does_not_put_it_on_the_screen(run: Run, folder: Path) -> None:
    """The service's words are shown without the token, in the line and in JSON."""

    async def quote(request: Request) -> JSONResponse:
        return JSONResponse({"error": "Bad token", "details": request.headers["authorization"]}, 401)

    quoting = [Route("/v1/{rest:path}", quote, methods=["GET", "POST"])]
    with LocalService.open(folder) as service, LocalServer(service, routes=quoting) as server:
        where = ("--base-url", server.url, "--organization", "o", "--pipeline", "p", "--api-key", TOKEN)
        for words in (("ask", "bees"), ("ask", "bees", "--json"), ("health",), ("load-test", "q")):
            ended = run(*words, *where)
            assert ended.code == 1
            assert "Bad token" in ended.err
            assert TOKEN not in ended.out + ended.err


def test_an_excerpt_shows_where_the_answer_is() -> None:
    """Of a long passage the part is shown that holds the question's words, cut between words."""
    text = "Nothing here matters at all. " * 40 + "The volcano expels lava. " + "More filling words follow. " * 40
    shown = excerpt(text, "What does a volcano expel?", 100)
    assert "volcano expels lava" in shown
    assert len(shown) <= 104
    assert shown.startswith("… ")
    assert shown.endswith(" …")


def test_filter_values_keep_their_types() -> None:
    """Numbers and booleans are read as such, quoted or other text stays text."""
    given = ["year=2024", "draft=false", 'code="2024"', "name=a=b", "year=2.5", "none=null"]
    assert metadata_filters(given) == [
        {"year": [2024, 2.5]},
        {"draft": [False]},
        {"code": ["2024"]},
        {"name": ["a=b"]},
        {"none": ["null"]},
    ]
    with pytest.raises(ConfigurationError, match="FIELD=VALUE"):
        metadata_filters(["=2024"])
