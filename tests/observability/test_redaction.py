"""What may be shown: no credential in any form, and no personal data in texts."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
import time
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from rage_retrievers.errors import ConfigurationError, ServerError
from rage_retrievers.observability.redaction import Redactor, is_secret_field
from rage_retrievers.observability.secrets import REDACTED, Secrets, register_secret

SECRET = 'p@ss/w"örd+with&all=kinds of%signs'
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhdWQiOiJvcmctMSJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"


def knowing(*secrets: str, **options: object) -> Redactor:
    known = Secrets()
    for secret in secrets:
        known.register(secret)
    return Redactor(secrets=known, **options)  # type: ignore[arg-type]


FORMS = {
    "as it is": SECRET,
    "quoted for a path": quote(SECRET, safe=""),
    "quoted for a form": quote_plus(SECRET),
    "quoted in lower case": quote(SECRET, safe="").lower().replace("p%40ss", "p%40ss"),
    "quoted twice": quote(quote(SECRET, safe=""), safe=""),
    "in JSON": json.dumps(SECRET)[1:-1],
    "in JSON with slashes escaped": json.dumps(SECRET)[1:-1].replace("/", "\\/"),
    "in JSON made for HTML": json.dumps(SECRET)[1:-1]
    .replace("&", "\\u0026")
    .replace("=", "\\u003d")
    .replace("+", "\\u002b"),
    "in HTML": html.escape(SECRET),
    "in HTML, all of it": html.escape(SECRET).replace("&quot;", "&#34;").replace("=", "&#x3D;"),
    "in repr": repr(SECRET)[1:-1],
    "in hex": SECRET.encode().hex(),
    "in base64": base64.b64encode(SECRET.encode()).decode(),
    "in base64 for URLs": base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    "in basic authorization": base64.b64encode(b"user:" + SECRET.encode()).decode(),
    "in basic authorization, another alignment": base64.b64encode(b"me:" + SECRET.encode() + b":x").decode(),
    "cut short": SECRET[:20] + "…",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_a_secret_in_use_is_found_in_every_form(form: str) -> None:
    """By value: however the secret was written, none of it is left."""
    shown = knowing(SECRET).credentials(f"before {form} after")
    assert REDACTED in shown
    assert form[6:18] not in shown
    assert shown.startswith("before")
    assert "after" in shown


@given(st.text(min_size=6, max_size=80), st.binary(max_size=5), st.binary(max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_secret_is_found_within_base64(secret: str, before: bytes, after: bytes) -> None:
    """Whatever stands before and after it, the secret cannot be read back from what is shown."""
    raw = secret.encode("utf-8", "surrogatepass")
    shown = knowing(secret).credentials(base64.b64encode(before + raw + after).decode())
    kept = "".join(part for part in shown.split(REDACTED))
    padded = kept + "=" * (-len(kept) % 4)
    with contextlib.suppress(ValueError):
        assert raw not in base64.b64decode(padded)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"token is {JWT}.", f"token is {REDACTED}"),
        (JWT[:60] + "…", f"{REDACTED}…"),
        ("Authorization: Bearer abc123def456", f"Authorization: {REDACTED}"),
        ("sent bearer ABCDEF0123456789 twice", f"sent bearer {REDACTED} twice"),
        ('{"api_key": "hello-world-1", "k": 5}', f'{{"api_key": "{REDACTED}", "k": 5}}'),
        (
            "https://user:pass@host/x?access_token=abcdefgh&k=1",
            f"https://{REDACTED}@host/x?access_token={REDACTED}&k=1",
        ),
        ("password=correct-horse", f"password={REDACTED}"),
        ("key sk-proj_0123456789abcdef0", f"key {REDACTED}"),
        ("AKIAIOSFODNN7EXAMPLE", REDACTED),
        (r"token\u003dcorrect-horse", rf"token\u003d{REDACTED}"),
        (r"{\"api_key\": \"hello-world-1\"}", rf'{{\"api_key\": \"{REDACTED}"}}'),
        ("a=1&amp;access_token&#x3D;abcdefgh&amp;k=1", f"a=1&amp;access_token&#x3D;{REDACTED}&amp;k=1"),
        ("{&quot;secret&quot;: &quot;correct-horse&quot;}", f"{{&quot;secret&quot;: &quot;{REDACTED}&quot;}}"),
        ("api_key&#61;abcdefgh", f"api_key&#61;{REDACTED}"),
        ("?next=%3Ftoken%3Dabcdefgh", f"?next=%3Ftoken%3D{REDACTED}"),
        ("%2522password%2522%253A%2522abcdefgh", f"%2522password%2522%253A%2522{REDACTED}"),
        ("Authorization%3A%20Bearer%20abc123def456", f"Authorization%3A%20{REDACTED}"),
    ],
)
def test_credentials_nobody_registered_are_known_by_shape(text: str, shown: str) -> None:
    """Tokens of others, from an environment mixed up or an answer that echoes, do not get through either."""
    assert Redactor(secrets=Secrets()).text(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("write to Ada.L+rag@mail.example.co.uk now", "write to [email] now"),
        ("?mail=ada%40example.org", "?mail=[email]"),
        ("card 4111 1111 1111 1111 ok", "card [card] ok"),
        ("order 12 4111-1111-1111-1111", "order 12 [card]"),
        ("amex 378282246310005", "amex [card]"),
        ("IBAN DE89 3704 0044 0532 0130 00 AND MORE", "IBAN [iban] AND MORE"),
        ("gb82west12345698765432.", "[iban]."),
        (
            "write to ada\uff20example.org, ada&#64;example.org or ada\\u0040example.org",
            "write to [email], [email] or [email]",
        ),
        ("mail='ada@example.org' o'neil@example.org", "mail='[email]' [email]"),
        ("card 4111.1111.1111.1111, amex 3782.822463.10005.", "card [card], amex [card]."),
        ("(030) 123 456 78 or 0171/1234567 or 0171 1234567", "[phone] or [phone] or [phone]"),
        ("(0221)123456-78, Tel.: 030-12345678.", "[phone], Tel.: [phone]."),
        ("?card=4111%201111%201111%201111&c=4111+1111+1111+1111", "?card=[card]&c=[card]"),
        ("4111\u20131111\u20131111\u20131111, 4111\u202f1111\u202f1111\u202f1111", "[card], [card]"),
        (
            r'{"card": "4111\u00a01111\u00a01111\u00a01111"}, 4111&nbsp;1111&nbsp;1111&nbsp;1111',
            '{"card": "[card]"}, [card]',
        ),
        ("?iban=DE89%203704%200044%200532%200130%2000&i=DE89+3704+0044+0532+0130+00", "?iban=[iban]&i=[iban]"),
        (r"DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000, \nDE89370400440532013000\n", r"[iban], \n[iban]\n"),
        (
            "q=pay%20with%204111%201111%201111%201111%20or%20%2B44%2020%207946%200958",
            "q=pay%20with%20[card]%20or%20[phone]",
        ),
        ("q=pay+with+4111+1111+1111+1111+or+%2B44+20+7946+0958", "q=pay+with+[card]+or+[phone]"),
        ("%0A4111111111111111%0A", "%0A[card]%0A"),
        ("?phone=%2B44%2020%207946%200958&p=%2B44+20+7946+0958", "?phone=[phone]&p=[phone]"),
        (r'"\u002b442079460958", +44\u202f20\u202f7946\u202f0958', '"[phone]", [phone]'),
        (r"ada@example\u002eorg ada%2Elovelace%40example%2Eorg ada\\u0040example.org", "[email] [email] [email]"),
        ("call +49 (0)30 1234-5678 or 030 1234 5678 or (212) 555-0100", "call [phone] or [phone] or [phone]"),
    ],
)
def test_personal_data_is_hidden(text: str, shown: str) -> None:
    """E-mail addresses, cards, IBANs and phone numbers give way to the word for what they are."""
    assert Redactor().text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112 fails the Luhn check",
        "GB82 WEST 1234 5698 7654 33 fails the mod-97 check",
        "from 2024-01-15 10:02:03 to 2024-01-15T10:02:03.123456Z",
        "score 0.9959771, host 192.168.1.100, attempt 2 of 3, 1753692182.123456",
        "bd649160-a790-4b81-a4f4-4655ffe3a71f-87ac4bd6c356e27-84",
        "582893ba-291c-4ec7-a6ee-e85c26888817 aip_0171/0012 page 030/112",
        "2026-01-31 00:00:59 +0000, 20260131T235959, week 05/2026, 05/12/2026, 31.01.2026, 2026.01.31.1200",
        "version 10.0.19041.1288, 1.26.4, 2024.12.1, 3.11.0rc1; 10.128.0.1:8080, fe80::1ff:fe23:4567:890a",
        "0.4111111111111111 and 0.77146006, 1.0e-05, 99.95 %, 12,345,678.90, (0.5) (0) (12)",
        "epoch 1753692182, 1753692182123, 1753692182123456, 1753692182123456789",
        "GET /org/org-1/pipelines/aip-1/retrieval?k=5&amp;rerank=true -> 200 (0.4 s)",
        "a token: none, 3 tokens, tokenizer=wordpiece, at 10:30 @home, x = y@z",
        "HTTP 401; check the token: it may be missing, mistyped, expired, or of another environment.",
        "basic knowledge of the bearer of instruments, max_tokens=1000000",
    ],
)
def test_what_is_not_private_stays_readable(text: str) -> None:
    """Checks keep numbers, dates, scores, ids and our own hints as they are."""
    assert Redactor().text(text) == text


def test_fields_named_like_a_secret_lose_their_value() -> None:
    """By name, at any depth; settings that only count tokens are shown."""
    hidden = [
        "api_key",
        "apiKey",
        "Authorization",
        "accessToken",
        "RAGE_VECTORIZE_API_KEY",
        "x-lambda-api-key",
        "Cookie",
    ]
    shown = ["max_tokens", "RAGE_TOKEN_BUFFER", "pipeline_id", "key", "tokenizer"]
    assert all(map(is_secret_field, hidden))
    assert not any(map(is_secret_field, shown))
    data = {"outer": [{"api_key": "x", "max_tokens": 5, "at": "a@b.org"}], "token": None}
    assert Redactor().value(data) == {
        "outer": [{"api_key": REDACTED, "max_tokens": 5, "at": "[email]"}],
        "token": None,
    }
    assert Redactor().headers([("Authorization", "x"), ("accept", "json")]) == (
        ("Authorization", REDACTED),
        ("accept", "json"),
    )


@pytest.mark.parametrize("text", ["/?token={}/x", "{{'authorization': 'Bearer {}'}}", 'api_key="{}"'])
def test_what_is_redacted_twice_is_redacted_once(text: str) -> None:
    """By its value and by the name of its field, and again by the next one who shows it."""
    redactor = knowing(SECRET)
    shown = redactor.text(text.format(SECRET))
    assert REDACTED in shown
    assert "]]" not in shown
    assert redactor.text(shown) == shown


def test_own_patterns_and_detectors_count_too() -> None:
    """Patterns work everywhere; detectors, which may be slow, on questions and passages alone."""

    def names(text: str) -> list[tuple[int, int, str]]:
        start = text.find("Ada")
        return [(start, start + 3, "name"), (start + 1, start + 3, "name")] if start >= 0 else []

    redactor = Redactor(patterns=(r"ACME-\d+",), detectors=(names,))
    assert redactor.passage("Ada ordered ACME-17") == f"[name] ordered {REDACTED}"
    assert redactor.text("Ada ordered ACME-17") == f"Ada ordered {REDACTED}"


def test_a_passage_is_cut_without_showing_half_a_secret() -> None:
    """What straddles the cut is dropped with it."""
    for start in range(60, 110):
        shown = Redactor().passage("x" * start + " ada.lovelace@example.org " + "y" * 500, most=100)
        assert len(shown) <= 101
        assert "lovelace@" not in shown
        assert shown.endswith("…")


@pytest.mark.parametrize(
    "secret",
    ["ada.lovelace@example.org", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "sk-abcdefghijklmnop0123"],
)
def test_half_a_secret_is_not_shown_where_others_made_room_for_it(secret: str) -> None:
    """What is hidden before it grows shorter, so that what straddled the end of the text looked at would come in."""
    for inside in range(len(secret)):
        before = ("grace@example.org " * 7 + "y " * 100)[: 100 + 64 - inside]
        shown = Redactor().passage(before + secret + " and so on" * 50, most=100)
        assert secret[:6] not in shown
        assert shown.startswith("[email]")


@pytest.mark.parametrize("secret", [JWT, "plain/token+that=is;no&JWT-4711-and-long"], ids=["JWT", "opaque"])
@pytest.mark.parametrize("parted", ["\n", "\r\n  ", "\\n", "\\r\\n", "\u200b", "\u00ad", "%0A"], ids=repr)
def test_a_secret_in_two_lines_is_found(secret: str, parted: str) -> None:
    """Cut once or every 16 characters, as it is or in base64, by a line break or by a character nobody sees."""
    redactor = knowing(secret)
    basic = base64.b64encode(b"user:" + secret.encode()).decode()
    for whole in (secret, basic):
        for width in (16, 20, 60):
            lines = [whole[at : at + width] for at in range(0, len(whole), width)]
            shown = redactor.text(f"one\ntwo {parted.join(lines)}\nthree")
            assert shown.startswith("one\ntwo ")
            assert shown.endswith("\nthree")
            assert not [line for line in lines[1:-1] if line in shown], shown
    assert redactor.text("one\ntwo\n\nthree\\n") == "one\ntwo\n\nthree\\n"


def test_an_opaque_secret_cut_short_leaves_nothing() -> None:
    """Whatever characters it has, wherever a message of limited length ends."""
    secret = "plain/token+that=is;no&JWT-4711-and-long"
    for length in range(17, len(secret)):
        assert knowing(secret).text(f"told {secret[:length]} here") == f"told {REDACTED} here"


def test_the_signature_of_a_token_in_use_is_a_secret_by_itself() -> None:
    """What proves a JWT is found without the two parts before it, whole or cut short."""
    signature = JWT.rpartition(".")[2]
    shown = knowing(JWT).text(f"signature {signature}, or {signature[:30]}…")
    assert shown == f"signature {REDACTED}, or {REDACTED}…"


def test_errors_are_redacted_in_place_with_their_causes() -> None:
    """What the service echoed is gone from the message, the fields and the chain; the class and status stay."""
    error = ServerError(f"HTTP 500: {JWT}", status=500, error=f"bad {JWT}", details="ada@example.org")
    error.__cause__ = ValueError(f"header {JWT}")
    shown = Redactor().error(error)
    assert shown is error
    assert (shown.status, shown.error, shown.details) == (500, f"bad {REDACTED}", "[email]")
    assert "eyJ" not in str(error) + error.message + str(error.__cause__) + repr(error)


@pytest.mark.parametrize(
    ("patterns", "wrong"),
    [
        ("abc", "cannot be of type str; give a tuple"),
        (re.compile("abc"), "cannot be of type Pattern; give a tuple"),
        (None, "cannot be of type NoneType; give a tuple"),
        (("abc", "("), r"patterns\[1\] cannot be used: missing \), unterminated subpattern at position 0\.$"),
        ((b"abc",), r"patterns\[0\] cannot be used: cannot use a bytes pattern"),
        ((5,), r"patterns\[0\] cannot be used: first argument must be string"),
    ],
)
def test_patterns_that_cannot_be_used_are_refused_when_they_are_given(patterns: object, wrong: str) -> None:
    """A text is no tuple of its letters; a pattern that is none is told by its place, and not by the first record."""
    with pytest.raises(ConfigurationError, match=wrong) as refused:
        Redactor(patterns=patterns)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"detectors": lambda text: []}, "detectors cannot be of type function; give a tuple"),
        ({"detectors": "names"}, "detectors cannot be of type str; give a tuple"),
        ({"detectors": ["names"]}, r"detectors\[0\] cannot be of type str; give a function"),
        ({"secrets": ["planted-secret"]}, r"secrets cannot be of type list; .*register_secret"),
    ],
)
def test_what_could_find_nothing_is_refused_when_it_is_given(options: Any, wrong: str) -> None:
    """Not by the first text that is shown; and the error holds no secret."""
    with pytest.raises(ConfigurationError, match=wrong) as refused:
        Redactor(**options)
    assert "planted" not in str(refused.value)


@pytest.mark.parametrize("secret", [SecretStr("planted-secret"), b"planted-secret", 4711])
def test_a_secret_that_is_no_text_is_refused(secret: Any) -> None:
    """Kept as it is, it would never be found in a text; the error does not show it."""
    with pytest.raises(ConfigurationError, match="A secret is a text, not a") as refused:
        register_secret(secret)
    assert "planted" not in str(refused.value)


def test_patterns_may_come_from_anything_that_gives_them() -> None:
    """A list or a generator is read once, so every text is redacted alike."""
    redactor = Redactor(patterns=(word for word in ("abc", re.compile("DEF"))))  # type: ignore[arg-type]
    assert [redactor.text("abc DEF") for _ in range(2)] == ["[redacted] [redacted]"] * 2


UNITS = [
    " ",
    "\t ",
    "a'",
    "@ a'",
    "0171/",
    "(030) ",
    "4111.",
    "4111.1111.",
    "token&#",
    "%2540a.",
    "&#64;a.",
    "\\u003d",
    "a",
    "1 ",
    "1",
    "12 ",
    "a.b-",
    "://",
    "DE89 ",
    "+4 ",
    "x@",
    "eyJ",
    "token=",
    "a@b.",
    "(0",
    "bearer ",
    "%40a.",
    "4%20",
    "41%20",
    "+41",
    "DE89%20",
    "%2B4%20",
    "\\u00a04",
    "\\\\u0040a.",
    "a%2E",
    "to\nken",
]


@pytest.mark.parametrize("unit", UNITS)
def test_redaction_is_linear(unit: str) -> None:
    """100,000 characters take well under the seconds that a quadratic search would, whatever a stranger puts there."""
    redactor = knowing(SECRET)
    text = unit * (100_000 // len(unit))
    began = time.process_time()
    redactor.text(text)
    redactor.text(f"a{text}b\n")  # with a line break it is read as one long word, too
    assert time.process_time() - began < 4.0


def test_the_list_of_secrets_is_bounded_and_shows_none() -> None:
    """Rotated tokens do not pile up, tiny values would hide everything, and the repr holds no value."""
    secrets = Secrets()
    for number in range(80):
        secrets.register(f"secret-number-{number:03d}")
    secrets.register("short")
    secrets.register(None)
    assert repr(secrets) == "Secrets(64 values)"
    assert secrets.hide("secret-number-079 short") == f"{REDACTED} short"
    assert secrets.version == 80
