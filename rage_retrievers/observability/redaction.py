"""Redaction, the one place that decides what may be shown: in logs, errors, audit records, spans and cassettes.

Credentials are found three ways: by value (the secrets in use, in every form in which they travel), by shape (JWTs,
bearer headers, vendors' keys, `password=…`) and by the name of the field that holds them. Personal data in texts is
found by pattern, where cards must pass the Luhn check and IBANs the mod-97 check. Everything here is linear in the
length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

from .._secrets import REDACTED, Secrets, secrets_in_use
from ..errors import ConfigurationError, RageError

E = TypeVar("E", bound=BaseException)


class Span(NamedTuple):
    """Where a detector found something: characters `start` to `end`, and what it is, in one lower-case word."""

    start: int
    end: int
    kind: str


Detector: TypeAlias = Callable[[str], Iterable[tuple[int, int, str]]]
"""Finds personal data in a text, as (start, end, kind); for name recognition and other heavy things."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Replace what `pattern` matches by `label`. In lower case, a text without one of `hints` has no match."""

    label: str
    pattern: re.Pattern[str]
    hints: tuple[str, ...] = ()
    check: Callable[[str], str] | None = None
    """From what matched to what to show instead; None shows the label."""

    def hide(self, text: str, folded: str) -> str:
        """The text without what this shape finds; `folded` is the text in lower case."""
        if self.hints and not _holds_one(folded, self.hints):
            return text
        check = self.check
        if check is None:
            return self.pattern.sub(self.label, text)
        return self.pattern.sub(lambda match: check(match[0]), text)


def _holds_one(text: str, words: tuple[str, ...]) -> bool:
    for word in words:  # noqa: SIM110 # a generator costs more than the searches
        if word in text:
            return True
    return False


def _hidden(text: str, shapes: tuple[Shape, ...]) -> str:
    folded = text.lower()
    for shape in shapes:
        text = shape.hide(text, folded)
    return text


_HTML_NAMES = {
    "=": "equals", ":": "colon", '"': "quot", "'": "apos", "@": "commat", "+": "plus", ".": "period",
}  # fmt: skip


def _escaped(char: str) -> str:
    """A pattern for an ASCII character as it is, and as it is escaped for JSON, for a URL (twice too) and for HTML."""
    code = f"{ord(char):02x}"
    digits = f"{code[0]}[{code[1]}{code[1].upper()}]"
    in_html = rf"&#(?:0*{ord(char)}|[xX]0*{digits});|&{_HTML_NAMES[char]};"
    return rf"(?:{re.escape(char)}|\\{{1,4}}u00{digits}|%(?:25)?{digits}|{in_html})"


_ASSIGNS = f"(?:{_escaped('=')}|{_escaped(':')})"
_SPACES = r"(?:\s|%20|\+){0,3}"
_WORD = r"(?:(?<![a-z])|(?<=%[0-9a-f]{2})|(?<=u00[0-9a-f]{2})|(?<=\\[nrt]))"  # a word begins after an escape too
_QUOTES = rf"(?:\\{{0,3}}(?:{_escaped(chr(34))}|{_escaped(chr(39))}))?"

CREDENTIAL_SHAPES = (
    # A field named like a secret, and its value: `"api_key": "…"`, `token=…`, `Authorization: Bearer …`.
    Shape(
        r"\1" + REDACTED,
        re.compile(
            rf"(?i)((?:authorization|api[_-]?key|{_WORD}(?:[a-z]+[_-])?token|secret|passwd|password|cookie)"
            rf"{_QUOTES}{_SPACES}{_ASSIGNS}{_SPACES}{_QUOTES})"
            r"(?:(?:bearer|basic)(?:\s|%20|\+)+(?:\[redacted\]|[^\s\"'&,;})\]]+)|\[redacted\]|[^\s\"'&,;})\]]{6,})"
        ),
        ("authorization", "apikey", "api_key", "api-key", "token", "secret", "passw", "cookie"),
    ),
    Shape(REDACTED, re.compile(r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,4}"), ("eyj",)),
    Shape(r"\1 " + REDACTED, re.compile(r"\b((?i:bearer))\s+(?=[\w.~+/=-]*\d|\S{20})[\w.~+/=-]{8,}"), ("bearer",)),
    Shape(
        REDACTED,
        re.compile(r"\b(?:sk-[\w-]{16,}|gh[pousr]_\w{20,}|AKIA[0-9A-Z]{16}|xox[abprs]-[\w-]{10,}|AIza[\w-]{30,})"),
        ("sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "akia", "xox", "aiza"),
    ),
    Shape("://" + REDACTED + "@", re.compile(r"://[^\s/@]{1,256}@"), ("@",)),
)
# What a text without any credential nearly always lacks; each shape above and each e-mail address has one of these.
_MARKED = re.compile(r"[=:@%&\\\uff20\ufe6b]|eyJ|[Bb][Ee][Aa][Rr][Ee][Rr]|sk-|gh[pousr]_|AKIA|xox|AIza").search


def _luhn(digits: str) -> bool:
    doubled = (int(digit) * (1 + index % 2) for index, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


_GAP = (
    r"(?:[ \u00a0\u2007\u2009\u202f\u2010-\u2015-]|%20|%2[dD]|%[cC]2%[aA]0|\+|&nbsp;"
    r"|\\{1,4}u(?:00[aA]0|20(?:0[79]|1[0-5]|2[fF])))"
)
"""What parts the groups of a number: spaces and dashes of every width, as they are and as they are escaped."""
_PARTS = re.compile(rf"{_GAP}|(\d+)", re.ASCII)
_GAPS = re.compile(_GAP)

_CARDS_BEGIN = "234568"
"""Numbers of the payment networks; seconds since 1970, in whatever unit, begin with 1."""


def _hide_cards(run: str) -> str:
    """The run of digit groups without any window of whole groups that is a card number."""
    groups = [part for part in _PARTS.finditer(run) if part[1]]
    for first in range(len(groups)):
        if groups[first][0][0] not in _CARDS_BEGIN:
            continue
        digits = ""
        for last in range(first, len(groups)):
            digits += groups[last][0]
            if len(digits) > 19:
                break
            if len(digits) >= 13 and _luhn(digits):
                return run[: groups[first].start()] + "[card]" + _hide_cards(run[groups[last].end() :])
    return run


def _hide_iban(run: str) -> str:
    """The run without its longest beginning that is an IBAN; the pattern may have taken in words that follow."""
    for end in range(len(run), 14, -1):
        if not run[end - 1].isalnum():
            continue
        compact = _GAPS.sub("", run[:end]).upper()
        if 15 <= len(compact) <= 34 and compact.isalnum() and _mod97(compact):
            return "[iban]" + run[end:]
    return run


def _mod97(compact: str) -> bool:
    return int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1


def _hide_phone(run: str) -> str:
    return "[phone]" if 8 <= len(re.sub(r"\D", "", _GAPS.sub("", _PLUS_SIGN.sub("", run)))) <= 15 else run


_PLUS = _escaped("+")
_PLUS_SIGN = re.compile(_PLUS)
_AT = rf"(?:{_escaped('@')}|[\uff20\ufe6b])"
_DOT = rf"(?:{_escaped('.')}|\uff0e)"
EMAIL_SHAPES = (
    Shape(
        "[email]",
        # An apostrophe belongs to a name only between letters; elsewhere it is a quotation mark.
        re.compile(
            rf"(?<![\w.+%-])(?<!\w')(?:[\w.+-]|%(?!(?:25)?40)|(?<=\w)'(?=\w))+{_AT}(?:[\w-]+{_DOT})+[\w-]{{2,}}"
        ),
        ("@", "40", "#64", "#064", "commat", "\uff20", "\ufe6b"),
    ),
)
_CARD_GROUPS = rf"\d{{2,19}}(?:{_GAP}\d{{2,19}}){{0,9}}"
_BEGINS = r"(?:\b|(?<=_)|(?<=\\[nrt])|(?<=%[0-9a-fA-F]{2}))"  # after an escaped line break too
# A number begins where no digit is before it; the digits of an escaped space are none of its own.
_NUMBER = r"(?:(?<![\d%])(?<!%\d)(?<!u00[aA])|(?<=%[0-9a-fA-F]{2})|(?<=u00[aA]0))"
_BETWEEN = rf"(?:{_GAP}|[./()]){{0,2}}"
PERSONAL_SHAPES = (
    *EMAIL_SHAPES,
    Shape(
        "[iban]",
        re.compile(rf"{_BEGINS}[A-Za-z]{{2}}\d{{2}}(?:{_GAP}?[A-Za-z0-9]){{11,30}}(?![A-Za-z0-9])", re.ASCII),
        check=_hide_iban,
    ),
    # Dots only where they part a number as cards are parted: elsewhere they make a decimal, a version or an address.
    Shape(
        "[card]",
        re.compile(
            r"(?<![\d.])(?:\d{4}\.\d{4}\.\d{4}\.\d{1,7}|\d{4}\.\d{6}\.\d{4,5})(?![\d.]\d|\d)"
            rf"|{_NUMBER}(?<!\b0\.){_CARD_GROUPS}(?!\d)",
            re.ASCII,
        ),
        check=_hide_cards,
    ),
    Shape(
        "[phone]",
        re.compile(
            rf"(?:(?<![\w.+])|(?<=_)|(?<=\\[nrt])|(?<=%[0-9a-fA-F]{{2}})|(?<=\+)(?=%2[bB]))(?:{_PLUS}[1-9](?:{_BETWEEN}\d){{6,14}}"
            r"|(?<!\d[ -])(?:00[1-9](?:[ ./()\u00a0-]{0,2}\d){6,14}|\(?0?\d{2,4}\)?[ ./-]\d{3,4}[ .-]\d{3,4}"
            r"|\(0\d{1,5}\)[ /-]{0,2}\d{2,4}(?:[ /-]?\d{2,4}){1,4}|(?<!/)0\d{2,4}[ /-]\d{5,9}))"
            r"(?!\w|[ .-]\d)",
            re.ASCII,
        ),
        check=_hide_phone,
    ),
)
_NAMING = CREDENTIAL_SHAPES + EMAIL_SHAPES
_DIGIT = re.compile(r"\d", re.ASCII).search

_SECRET_FIELD = re.compile(
    r"(?i)(?:token|secret|passw(?:or)?d|passphrase|api[-_.]?key|(?:access|private|secret|lambda-api|signing|audit)[-_.]?key"
    r"|authorization|cookie|credentials?|jwt)$|passw(?:or)?d"
)


def is_secret_field(name: object) -> bool:
    """Whether a field of this name holds a credential: `api_key`, `Authorization`, `accessToken`, not `max_tokens`."""
    return isinstance(name, str) and _SECRET_FIELD.search(name) is not None


def _several(name: str, given: Any, such_as: str) -> tuple[Any, ...]:
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ConfigurationError(
            f"Redactor's {name} cannot be of type {type(given).__name__}; give a tuple, also of one, such as {such_as}."
        )
    return tuple(given)


def _patterns(given: Any) -> tuple[re.Pattern[str], ...]:
    several = _several("patterns", given, r"(r'case-\d+',)")
    return tuple(_compiled(place, pattern) for place, pattern in enumerate(several))


def _compiled(place: int, pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
        compiled.search("")  # which one for bytes refuses
    except (re.error, OverflowError, TypeError) as error:
        raise ConfigurationError(f"Redactor's patterns[{place}] cannot be used: {error}.") from None
    return compiled


def _detectors(given: Any) -> tuple[Detector, ...]:
    several = _several("detectors", given, "(find_names,)")
    for place, detector in enumerate(several):
        if not callable(detector):
            raise ConfigurationError(
                f"Redactor's detectors[{place}] cannot be of type {type(detector).__name__}; give a function from a "
                "text to the (start, end, kind) of what it finds."
            )
    return several


@dataclass(frozen=True, slots=True)
class Redactor:
    """Hides credentials everywhere and personal data in texts.

    `patterns` are the user's own, each replaced by `[redacted]` everywhere. `detectors` see only the texts of
    questions and passages, where showing those was switched on, and never in the thread or task of the call.
    """

    patterns: tuple[str | re.Pattern[str], ...] = ()
    detectors: tuple[Detector, ...] = ()
    secrets: Secrets = secrets_in_use

    def __post_init__(self) -> None:
        if self.patterns != ():
            object.__setattr__(self, "patterns", _patterns(self.patterns))
        if self.detectors != ():
            object.__setattr__(self, "detectors", _detectors(self.detectors))
        if not isinstance(self.secrets, Secrets):
            raise ConfigurationError(
                f"Redactor's secrets cannot be of type {type(self.secrets).__name__}; leave it out, and tell of each "
                "secret with register_secret(...)."
            )

    def text(self, text: str) -> str:
        """The text of a message, a field or an id, without credentials and without personal data."""
        shown = self.credentials(text)
        shown = _hidden(shown, PERSONAL_SHAPES if _DIGIT(shown) else EMAIL_SHAPES)
        for pattern in self.patterns:
            shown = re.sub(pattern, REDACTED, shown)
        return shown

    def credentials(self, text: str) -> str:
        """The text without credentials."""
        shown = self.secrets.hide(text)
        return _hidden(shown, CREDENTIAL_SHAPES) if _MARKED(shown) else shown

    def identifier(self, text: str) -> str:
        """An id or a name, without credentials and e-mail addresses; digits in ids only look like cards and phones."""
        shown = self.secrets.hide(text)
        return _hidden(shown, _NAMING) if _MARKED(shown) else shown

    def identifiers(self, texts: Iterable[str]) -> list[str]:
        """Many identifiers at once, which costs little more than one."""
        given = list(texts)
        if not given:
            return given
        # A separator that is white space, and no line break within a secret.
        shown = self.identifier("\x1e".join(given)).split("\x1e")
        return shown if len(shown) == len(given) else [self.identifier(text) for text in given]

    def passage(self, text: str, most: int = 2_000) -> str:
        """A question or a passage, at most `most` characters of it, also without what the detectors find."""
        # What straddles the cut can no longer be recognized, so the last characters before it are dropped.
        margin = 64
        whole = len(text) <= most
        shown = text if whole else text[: most + margin]
        for start, end, kind in sorted(self._found(shown), reverse=True):
            shown = f"{shown[:start]}[{kind}]{shown[end:]}"
        shown = self.text(shown)
        return shown if whole else shown[:-margin][:most] + "…"

    def _found(self, text: str) -> list[Span]:
        """What the detectors found, without overlaps."""
        found = sorted(Span(*span) for detector in self.detectors for span in detector(text))
        kept: list[Span] = []
        for span in found:
            if kept and span.start < kept[-1].end:
                kept[-1] = Span(kept[-1].start, max(kept[-1].end, span.end), kept[-1].kind)
            else:
                kept.append(span)
        return kept

    def value(self, value: Any, depth: int = 12) -> Any:
        """Plain data without credentials and personal data; fields named like a secret lose their whole value."""
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool | int | float):
            return value
        if depth == 0:
            return REDACTED
        if isinstance(value, Mapping):
            return {
                self.text(str(name)): REDACTED if is_secret_field(name) and inner else self.value(inner, depth - 1)
                for name, inner in value.items()
            }
        if isinstance(value, bytes | bytearray):
            return self.text(bytes(value).decode("utf-8", "replace"))
        if isinstance(value, Sequence | set | frozenset):
            return [self.value(item, depth - 1) for item in value]
        return self.text(str(value))

    def headers(self, headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """Headers as they may be shown or recorded."""
        return tuple((name, REDACTED if is_secret_field(name) else self.text(value)) for name, value in headers)

    def error(self, error: E) -> E:
        """The same error, its words redacted in place with those of its causes: what a service echoed stays here."""
        seen: set[int] = set()
        waiting: list[BaseException | None] = [error]
        while waiting:
            current = waiting.pop()
            if current is not None and id(current) not in seen:
                seen.add(id(current))
                self._scrub(current)
                waiting += [current.__cause__, current.__context__]
                waiting += current.exceptions if isinstance(current, BaseExceptionGroup) else ()
        return error

    def _scrub(self, error: BaseException) -> None:
        if not isinstance(error, BaseExceptionGroup):  # whose arguments are its errors
            error.args = tuple(
                self.value(part) if isinstance(part, str | bytes | Mapping | list) else part for part in error.args
            )
        if getattr(error, "__notes__", None):
            error.__notes__ = [self.text(str(note)) for note in error.__notes__]
        if isinstance(error, RageError):
            words = {name: self.text(value) for name, value in vars(error).items() if isinstance(value, str)}
            vars(error).update(words)


DEFAULT_REDACTOR = Redactor()


def check_redactor(owner: str, given: object) -> None:
    """Raise ConfigurationError, which tells the type alone, for what redacts nothing."""
    if not isinstance(given, Redactor):
        raise ConfigurationError(
            f"{owner}'s redactor cannot be of type {type(given).__name__}; give a Redactor(...), or nothing for the "
            "usual one."
        )
