"""The secret values in use, so that they can be found by value in whatever is about to be shown.

Registering is cheap; `observability.redaction` does the rest.
"""

from __future__ import annotations

import base64
import html
import json
import re
import threading
from bisect import bisect_right
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

REDACTED = "[redacted]"
_SHORTEST_SECRET = 6
_MOST_SECRETS = 64
_BEGINNING = 16


class Secrets:
    """The secret values in use. Safe to use from every thread; holds the 64 that were registered last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, tuple[str, ...]] = {}
        self._forms: tuple[str, ...] = ()
        self.version = 0
        """Grows with every new secret, so that whoever keeps redacted text knows when to redact again."""

    def register(self, secret: str | None) -> None:
        """From now on this value is replaced wherever redaction looks; values under 6 characters are not."""
        if not secret or len(secret) < _SHORTEST_SECRET or secret in self._values:
            return
        with self._lock:
            self._values[secret] = _forms(secret)
            while len(self._values) > _MOST_SECRETS:
                del self._values[next(iter(self._values))]
            self._forms = tuple(form for forms in self._values.values() for form in forms)
            self.version += 1

    def hide(self, text: str) -> str:
        """The text without any registered secret."""
        if self._forms and _BREAK(text):
            text = self._mended(text)
        for form in self._forms:
            # Searching is the fast part, and nearly always all of it.
            if form in text:
                text = self._replaced(form, text)
        return text

    def _mended(self, text: str) -> str:
        """The text without the secrets that line breaks, or characters nobody sees, cut in two or more."""
        pieces, begins, at, length = [], [], 0, 0
        for found in [*_BREAKS.finditer(text), None]:
            piece = text[at : found.start() if found else len(text)]
            pieces.append(piece)
            begins.append((length, at))
            length, at = length + len(piece), found.end() if found else at
        whole = "".join(pieces)

        def place(index: int) -> int:
            """Where a character of the whole stands in the text."""
            begin, start = begins[bisect_right(begins, (index, len(text))) - 1]
            return start + index - begin

        spans = [
            (place(found.start()), place(found.end() - 1) + 1)
            for form in self._forms
            if len(form) > _BEGINNING and form in whole
            for found in re.finditer(re.escape(form), whole)
        ]
        for start, end in reversed(_apart(spans)):
            text = text[:start] + REDACTED + text[end:]
        return text

    def _replaced(self, form: str, text: str) -> str:
        if len(form) != _BEGINNING:
            return text.replace(form, REDACTED)
        # A beginning stands for the whole, so what follows it in the secret goes too, and what may follow it in a form
        # of the secret.
        wholes = [value[value.index(form) :] for value in self._values if form in value]
        shown, at = [], 0
        while (start := text.find(form, at)) >= 0:
            end = start + max([_BEGINNING, *(_alike(whole, text, start) for whole in wholes)])
            rest = _REST.match(text, end)
            shown += [text[at:start], REDACTED]
            at = rest.end() if rest else end
        return "".join([*shown, text[at:]])

    def __repr__(self) -> str:
        return f"Secrets({len(self._values)} values)"


# What an editor, a mail or an encoder puts into a long word, as it is and as it is escaped.
_BREAK = re.compile(r"[\n\r\u00ad\u200b-\u200d\u2060\ufeff]|\\{1,4}[nr]|%0[aAdD]").search
# From the first space of a gap on, and none given back, so that a gap without a break is read once.
_BREAKS = re.compile(r"(?<![ \t])[ \t]*+(?:(?:[\n\r\u00ad\u200b-\u200d\u2060\ufeff]|\\{1,4}[nr]|%0[aAdD])[ \t]*+)+")
_REST = re.compile(r"[\w.~+/=%-]*")


def _alike(whole: str, text: str, start: int) -> int:
    """How many characters of `whole` stand in the text from `start` on."""
    pairs = zip(whole, text[start : start + len(whole)], strict=False)
    return next(
        (number for number, (one, other) in enumerate(pairs) if one != other), min(len(whole), len(text) - start)
    )


def _apart(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, those that overlap as one."""
    apart: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if apart and start <= apart[-1][1]:
            apart[-1] = apart[-1][0], max(apart[-1][1], end)
        else:
            apart.append((start, end))
    return apart


def _forms(secret: str) -> tuple[str, ...]:
    """The ways a secret appears, longest first: as it is, cut short, its signature alone, escaped for a URL, for JSON
    or for HTML, in base64 or hex."""
    raw = secret.encode("utf-8", "surrogatepass")
    percent, in_json = quote(raw, safe=""), json.dumps(secret)[1:-1]
    forms = {
        secret,
        percent,
        quote(raw),  # a slash is left as it is there
        re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), percent),
        quote(percent, safe=""),
        quote_plus(raw),
        in_json,
        in_json.replace("/", "\\/"),
        repr(secret)[1:-1],
        *("".join(style % ord(char) if char in "&<>'=+" else char for char in in_json) for style in _JSON_ESCAPES),
        *_in_html(secret),
        raw.hex(),
        raw.hex().upper(),
    }
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            # Inside a longer text a secret starts at any of three alignments; its edge characters mix with others.
            encoded = encode(b"\0" * shift + raw).decode().rstrip("=")
            forms.add(encoded[(0, 2, 3)[shift] : -1])
    # Messages are cut at a length, so the beginning of a secret counts as the secret; so does the part of a JWT that
    # proves it.
    for part in (secret, *_JWT.findall(secret)):
        if len(part) >= 24:
            forms |= {part, part[:_BEGINNING]}
    return tuple(sorted((form for form in forms if len(form) >= _SHORTEST_SECRET), key=len, reverse=True))


_JSON_ESCAPES = ("\\u%04x", "\\u%04X")
_JWT = re.compile(r"^eyJ[\w-]+\.[\w-]+\.([\w-]+)$")


def _in_html(secret: str) -> set[str]:
    """With the five characters of HTML escaped as `html.escape` does it, with decimal quotes, and with `=` as well."""
    escaped = html.escape(secret)
    decimal = escaped.replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    return {
        html.escape(secret, quote=False),
        *(form.replace("=", equals) for form in (escaped, decimal) for equals in ("=", "&#x3D;", "&#61;")),
    }


secrets_in_use = Secrets()
