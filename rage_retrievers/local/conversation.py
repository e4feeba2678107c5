"""What a follow-up question is about, from the messages before it.

"And how is it configured?" finds nothing by itself. When a question leans on what was said before (it points back, or
is very short), the words of the user's earlier questions are searched for too, with less weight.
"""

from __future__ import annotations

from collections.abc import Sequence

from rage_retrievers.local import analysis

_POINTING = frozenset(
    """
    it its they them their theirs this that these those he him his she her hers one ones there then same such else
    former latter above previous
    """.split()  # noqa: SIM905  # readable as a list of words
)
_CONTINUING = ("and ", "but ", "also ", "or ", "so ", "what about", "how about", "what else", "why not", "why?")
_SHORT_TERMS = 2
_LOOK_BACK = 6


def background(question: str, messages: Sequence[tuple[str, str]]) -> str:
    """The text that a follow-up question leans on; empty for a question that stands by itself.

    `messages`: (role, content) in the order they were said; the question itself may be the last of them.
    """
    said = [content for role, content in messages if role.lower() in ("user", "human")]
    if said and said[-1].strip() == question.strip():
        said.pop()
    if not said or not _leans(question):
        return ""
    earlier: list[str] = []
    for content in reversed(said[-_LOOK_BACK:]):
        earlier.append(content)
        if not _leans(content):
            break
    return " ".join(reversed(earlier))


def _leans(question: str) -> bool:
    words = analysis.words(question)
    if _POINTING.intersection(words) or question.strip().lower().startswith(_CONTINUING):
        return True
    return len(analysis.terms(question)) <= _SHORT_TERMS
