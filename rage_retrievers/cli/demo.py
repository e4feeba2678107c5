"""`rage demo`: real documents answer a question through both frameworks, without an account or a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from . import options, passages, screen
from .demo_answers import Answer, ask_langchain, ask_llama_index, need_both_frameworks

if TYPE_CHECKING:
    from ..local import Stats

_ABOUT_THE_PROJECT = "What happens when the service answers 429 or 503?"
_ABOUT_ANY_FOLDER = "What are these documents about?"
_PROMPT_SHOWN = 700


@dataclass(frozen=True, slots=True)
class Collection:
    """What was indexed for the demo, and how long that took."""

    folder: Path
    described: str
    stats: Stats
    skipped: list[tuple[str, str]]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "documents": self.described,
            "files": self.stats.files,
            "passages": self.stats.chunks,
            "seconds": round(self.stats.seconds, 3),
            "reused": self.stats.reused,
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped],
        }


def demo(
    docs: Annotated[
        Path | None, typer.Option("--docs", metavar="DIR", help="A folder of .md, .txt, .html, .pdf or .docx files.")
    ] = None,
    question: Annotated[str | None, typer.Option("--question", "-q", metavar="Q", help="What to ask.")] = None,
    number: Annotated[int, typer.Option("-k", "--num-results", min=1, metavar="N", help="How many passages.")] = 3,
    full: Annotated[bool, typer.Option("--full", help="Show whole passages and the whole prompt.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Index a folder and ask it through LangChain and LlamaIndex; needs no account and no network.

    Without --docs, in a checkout, the documents are this project's own README and docs.
    """
    asked = question or (_ABOUT_THE_PROJECT if docs is None else _ABOUT_ANY_FOLDER)
    with screen.err().status("loading the frameworks"):
        need_both_frameworks()
    collection = _index(docs)
    answers = []
    console = screen.out()
    if not as_json:
        _show_collection(console, collection, asked)
    for answer in _answers(asked, number, collection.folder):
        answers.append(answer.as_dict())
        if not as_json:
            _show_answer(console, answer, asked, full=full)
    if as_json:
        screen.write_json({**collection.as_dict(), "question": asked, "answers": answers})
    elif question is None:
        console.print(Text('\nAsk your own: rage demo --question "…"', style="dim"))


def _index(docs: Path | None) -> Collection:
    from ..local._paths import cache_root
    from .indexing import indexed, nothing_to_read
    from .project_documents import project_documents

    folder = docs if docs is not None else project_documents(cache_root(None))
    described = str(docs) if docs is not None else "this project's README.md and docs/"
    with indexed(folder) as service:
        if not service.stats.files:
            screen.skipped_files(service.skipped)
            raise nothing_to_read(described)
        return Collection(folder, described, service.stats, service.skipped)


def _answers(question: str, number: int, folder: Path) -> Iterator[Answer]:
    """Each framework's answer as soon as it is there."""
    from ..client import VectorizeClient

    base_url = f"local:{folder}"
    with VectorizeClient(base_url=base_url) as client:
        client.pipeline()  # opens the index, so that the timings are those of questions
        for ask, name in ((ask_langchain, "LangChain"), (ask_llama_index, "LlamaIndex")):
            with screen.err().status(f"asking through {name}"):
                answer = ask(question, number, base_url)
            yield answer


def _show_collection(console: Console, collection: Collection, question: str) -> None:
    stats = collection.stats
    how = "index of an earlier run reused in" if stats.reused else "indexed in"
    screen.skipped_files(collection.skipped)
    rows = [
        ("documents", collection.described),
        ("", f"{screen.collected(stats.files, stats.chunks)}, {how} {stats.seconds:.2f} s"),
        ("question", question),
    ]
    console.print(screen.facts(rows))


def _show_answer(console: Console, answer: Answer, question: str, *, full: bool) -> None:
    console.print()
    console.print(Rule(answer.framework, align="left", style="dim"))
    console.print(Text(answer.how, style="magenta"))
    console.print()
    passages.show(console, answer.passages, question, full=full)
    found = screen.counted(len(answer.passages), "passage")
    timed = f"{found} in {answer.first * 1000:.1f} ms, asked again {answer.again * 1000:.1f} ms"
    console.print(Text(timed, style="dim"))
    console.print()
    console.print(Text(answer.ended))
    if answer.prompt is not None:
        console.print(_prompt(answer.prompt, full=full))


def _prompt(prompt: str, *, full: bool) -> Panel:
    text = screen.plain(prompt)
    title = f"prompt, {len(text):,} characters"
    if not full and len(text) > _PROMPT_SHOWN:
        left_out = f"\n[… {len(text) - _PROMPT_SHOWN:,} characters, shown by --full …]\n"
        half = _PROMPT_SHOWN // 2
        text = text[:half] + left_out + text[-half:]
    return Panel(Text(text), title=title, title_align="left", border_style="dim")
