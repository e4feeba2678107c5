"""Markdown without its HTML comments, which their authors did not mean to be read."""

from __future__ import annotations

import re

# A comment, a fence of a code block at the beginning of a line, or a run of backticks: whichever comes first.
_NEXT = re.compile(r"<!--|^ {0,3}(?:```+|~~~+)|`+", re.MULTILINE)
# A code span that is longer is none, so that a page of lone backticks is read in one pass.
_MAX_SPAN = 1_000


def without_comments(text: str) -> str:
    """The text less every `<!-- … -->` outside of code; one that does not end stays."""
    kept: list[str] = []
    copied = at = 0
    while found := _NEXT.search(text, at):
        if found.group() == "<!--":
            end = text.find("-->", found.end())
            if end < 0:
                break
            kept.append(text[copied : found.start()])
            at = copied = end + 3
        else:
            at = _after_code(text, found)
    kept.append(text[copied:])
    return "".join(kept)


def _after_code(text: str, found: re.Match[str]) -> int:
    mark = found.group().lstrip(" ")
    if len(mark) >= 3 and _begins_block(text, found, mark):
        closing = re.compile(rf"^ {{0,3}}{mark[0]}{{{len(mark)},}}[ \t]*$", re.MULTILINE).search(text, found.end())
        return closing.end() if closing else len(text)
    if len(mark) > _MAX_SPAN:
        return found.end()
    within = text[found.end() : found.end() + _MAX_SPAN].partition("\n\n")[0]
    end = re.search(rf"(?<!`){mark}(?!`)", within)
    return found.end() + (end.end() if end else 0)


def _begins_block(text: str, found: re.Match[str], mark: str) -> bool:
    if found.start() and text[found.start() - 1] != "\n":
        return False
    line_end = text.find("\n", found.end())
    return mark[0] == "~" or text.find("`", found.end(), line_end if line_end >= 0 else len(text)) < 0
