"""The secret values in use, so that they can be found by value in whatever is about to be shown.

Registering is cheap, and so is importing this module; `redaction` does the rest.
"""

from __future__ import annotations

import base64
import html
import json
import re
import threading
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
        for form in self._forms:
            # Searching is the fast part, and nearly always all of it.
            if form in text:
                text = _replace(form, text)
        return text

    def __repr__(self) -> str:
        return f"Secrets({len(self._values)} values)"


def _replace(form: str, text: str) -> str:
    # A beginning stands for the whole, so what may follow it in a secret goes too.
    rest = r"[\w.~+/=%-]*" if len(form) == _BEGINNING else ""
    return re.sub(re.escape(form) + rest, REDACTED, text)


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


def register_secret(secret: str | None) -> None:
    """Register a credential with the process's own list; clients do so with every token they send."""
    secrets_in_use.register(secret)
