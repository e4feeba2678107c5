"""From settings to a connection: which address, whose token, which engine. Checked before anything is sent."""

from __future__ import annotations

import copy
import hashlib
import ipaddress
import os
import re
import threading
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from ._endpoint import ENVIRONMENTS, Address
from ._flow import Flow, Wait, as_ask
from ._version import __version__
from .engines import Engines, embedded, engines_named
from .errors import ConfigurationError, DeadlineExceededError, RageError
from .models import Target
from .observability.secrets import register_secret

if TYPE_CHECKING:
    from .settings import VectorizeSettings

TokenSource: TypeAlias = Callable[[], str] | Callable[[], Awaitable[str]]
ApiKey: TypeAlias = str | SecretStr | TokenSource

LOCAL = "local:"
_MIB = 1024 * 1024


def register_key(key: object) -> None:
    """Register a token with redaction, where it is known without asking; what is wrong with it is told elsewhere."""
    text = key.get_secret_value() if isinstance(key, SecretStr) else key
    if isinstance(text, str):
        register_secret(text.strip())


class Credential:
    """The token, fixed or asked for. A callable is asked once, and again after a 401. Never shown, never pickled.

    Calls that need the token while it is asked for wait for the same answer, and its failure is everyone's; when the
    call that asks is cancelled, another takes over.
    """

    __slots__ = ("_asking", "_digest", "_lock", "_process", "_source", "_token")

    def __init__(self, key: ApiKey) -> None:
        self._source = key if callable(key) else None
        self._token: SecretStr | None = None
        self._lock = threading.Lock()
        self._asking: Future[RageError | None] | None = None
        self._process = 0
        self._digest = ""
        if isinstance(key, SecretStr):
            self._keep(key.get_secret_value())
        elif isinstance(key, str):
            self._keep(key)
        elif not callable(key):
            raise ConfigurationError(
                f"api_key is a {type(key).__name__}; give a text, a SecretStr, or a function that returns the token."
            )

    @property
    def renewable(self) -> bool:
        """Whether the token is asked for, so that a fresh one may be had."""
        return self._source is not None

    @property
    def digest(self) -> str:
        """Tells tokens apart without holding one; empty until a callable was asked."""
        return self._digest

    def token(self, remaining: Callable[[], float]) -> Flow[SecretStr]:
        """The token; asked for where that is needed, by one of the calls that need it. `remaining` is this call's time.

        Raises ConfigurationError if the function fails, DeadlineExceededError if another call's asking takes too long.
        """
        while True:
            with self._lock:
                if self._token is not None:
                    return self._token
                # A child of a fork inherits what its parent asked, and would never hear the answer.
                mine = self._asking is None or self._process != os.getpid()
                if mine:
                    self._asking, self._process = Future(), os.getpid()
                asking = self._asking
            assert asking is not None  # the lines above have made it
            if mine:
                return (yield from self._ask(asking))
            failed = yield from _followed(asking, remaining)
            if failed is not None:
                # An exception collects the traceback of everyone who raises it, so each raises its own.
                raise copy.copy(failed) from failed

    def _ask(self, asking: Future[RageError | None]) -> Flow[SecretStr]:
        failed: RageError | None = None
        try:
            return self._keep((yield as_ask(self._source)))
        except RageError as error:
            failed = error
            raise
        except Exception as error:  # whatever the user's function raises
            failed = _not_had(error)
        finally:
            with self._lock:
                self._asking = None
            asking.set_result(failed)
        raise failed  # here, where what the function raised is no context of it

    def current(self) -> SecretStr | None:
        """The token, if it is known without asking."""
        return self._token

    def expire(self, token: SecretStr) -> None:
        """The service refused `token`: ask again, unless somebody already has."""
        if self._source is not None and self._token is token:
            self._token = None

    def _keep(self, token: object) -> SecretStr:
        text = token.get_secret_value() if isinstance(token, SecretStr) else token
        if not isinstance(text, str):
            raise ConfigurationError(f"api_key gave a {type(text).__name__}; it must return the token as text.")
        text = text.strip()
        if not text:
            raise ConfigurationError("api_key is empty; give the token, or set VECTORIZE_API_KEY.")
        if not re.fullmatch(r"[\x21-\x7e]+", text):
            raise ConfigurationError("api_key holds a space, a control or a non-ASCII character; a token has none.")
        register_secret(text)
        self._token = kept = SecretStr(text)
        self._digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return kept

    def __repr__(self) -> str:
        return "Credential(***)"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a credential is not pickled; it is read again where it is needed")


def _not_had(error: Exception) -> ConfigurationError:
    """What the user's function raised, told by its class and place: its words, and its chain's, may hold the token."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):  # which reads no files; the last one is where it began
        place = f" at {os.path.basename(frame.f_code.co_filename)}:{line}"
    return ConfigurationError(
        f"api_key could not be had: the function that returns it raised {type(error).__name__}{place}; its words "
        "are not shown, for they may hold the token."
    )


def _followed(asking: Future[RageError | None], remaining: Callable[[], float]) -> Flow[RageError | None]:
    """How another call's asking ended: its error, or None where there is a token or nobody asks any more."""
    try:
        failed: RageError | None = yield Wait(asking, max(0.0, remaining()))
    except TimeoutError:
        raise DeadlineExceededError(
            "The time of the call was spent waiting for api_key's function; raise timeout= if it needs longer."
        ) from None
    return failed


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything a request needs but the question."""

    address: Address
    credential: Credential
    engines: Engines
    max_bytes: int


def connect(
    settings: VectorizeSettings, *, credential: Credential | None = None, engine: str | Engines | None = None
) -> Connection:
    """The connection these settings describe. `credential` and `engine` may be what a setting cannot hold.

    Raises ConfigurationError for a missing token, organization or pipeline, an address that cannot be used, and an
    unreadable folder.
    """
    if credential is None and settings.api_key is not None:
        credential = Credential(settings.api_key)
    chosen = engine if engine is not None else settings.engine
    engines = chosen if isinstance(chosen, Engines) else None
    max_bytes = int(settings.max_response_mib * _MIB)
    agent = _header_text(settings.user_agent) or f"rage-retrievers/{__version__}"
    settings = _trimmed(settings)
    for name in ("base_url", "retrieval_url"):
        if getattr(settings, name) == "":  # passed over, the token would go somewhere else
            raise ConfigurationError(f"{name} is empty; give an address, or leave it out.")
    if settings.base_url is not None and settings.base_url.startswith(LOCAL):
        engines = engines or _embedded_engines(settings)
    if engines is not None and engines.identity:
        address = _embedded_address(settings, engines.identity, agent)
        return Connection(address, credential or Credential("local"), engines, max_bytes)
    if credential is None:
        raise ConfigurationError(
            "api_key is missing; give it, or set VECTORIZE_API_KEY. "
            'Without an account, base_url="local:FOLDER" answers from your own documents.'
        )
    address = _gateway(settings, agent) if settings.retrieval_url else _service(settings, agent)
    name = "retrieval_url" if address.retrieval_url else "base_url"
    check_transport(address.retrieval_url or address.target.base_url, settings.allow_insecure, name)
    return Connection(address, credential, engines or engines_named(chosen), max_bytes)


def check_settings(given: object) -> None:
    """Raise ConfigurationError for what are no settings; their class is loaded with the first that are made."""
    if isinstance(given, type) or not callable(getattr(given, "changed", None)):
        raise ConfigurationError(
            f"settings is a {type(given).__name__}; give what VectorizeSettings.load(...) returns."
        )


def _header_text(agent: str) -> str:
    if not re.fullmatch(r"[\x20-\x7e]*", agent):
        raise ConfigurationError(f"user_agent = {agent[:80]!r} cannot be used; a header holds printable ASCII alone.")
    return agent.strip()


def _trimmed(settings: VectorizeSettings) -> VectorizeSettings:
    """The addresses without the white space that files and variables bring along."""
    given = {"base_url": settings.base_url, "retrieval_url": settings.retrieval_url}
    trimmed = {name: url.strip() for name, url in given.items() if url is not None and url != url.strip()}
    return settings.model_copy(update=trimmed) if trimmed else settings


def _embedded_engines(settings: VectorizeSettings) -> Engines:
    assert settings.base_url is not None  # the caller has looked
    folder = settings.base_url[len(LOCAL) :]
    if not folder:
        raise ConfigurationError('base_url = "local:" names no folder; write local:FOLDER, such as local:./docs.')
    return embedded(folder, organization=settings.organization, pipeline_id=settings.pipeline_id)


def _embedded_address(settings: VectorizeSettings, identity: str, agent: str) -> Address:
    from .local import LOCAL_ORGANIZATION, LOCAL_PIPELINE

    target = Target(
        f"http://{identity}.embedded.localhost/v1",
        settings.organization or LOCAL_ORGANIZATION,
        settings.pipeline_id or LOCAL_PIPELINE,
    )
    return Address(target, user_agent=agent)


def _service(settings: VectorizeSettings, agent: str) -> Address:
    base = (settings.base_url or ENVIRONMENTS[settings.environment]).rstrip("/")
    organization = _required(settings.organization, "organization", "VECTORIZE_ORGANIZATION_ID")
    pipeline_id = _required(settings.pipeline_id, "pipeline_id", "VECTORIZE_PIPELINE_ID")
    lambda_key = settings.base_url is None and settings.environment == "local"
    return Address(Target(base, organization, pipeline_id), lambda_key=lambda_key, user_agent=agent)


def _required(value: str | None, name: str, variable: str) -> str:
    if not (value or "").strip():
        raise ConfigurationError(f"{name} is missing; give it, or set {variable}.")
    return checked_id(value, name)


def checked_id(value: object, name: str) -> str:
    """An organization's or pipeline's id. Pipeline ids are no plain UUIDs, so only what breaks a path is refused."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} is a {type(value).__name__}; an id is a text.")
    text = value.strip()
    if not text or any(character.isspace() or not character.isprintable() for character in text) or text in (".", ".."):
        raise ConfigurationError(f"{name} = {text[:80]!r} cannot be used; an id has no spaces or control characters.")
    return text


def _gateway(settings: VectorizeSettings, agent: str) -> Address:
    """The older gateway's full address, which names organization and pipeline itself."""
    url = settings.retrieval_url or ""
    parts = urlsplit(url)
    named = re.search(r"/service/([^/]+)/([^/]+)/retrieve/?$", parts.path)
    organization = unquote(named.group(1)) if named else settings.organization or ""
    pipeline_id = unquote(named.group(2)) if named else settings.pipeline_id or ""
    target = Target(f"{parts.scheme}://{parts.netloc}", organization, pipeline_id or parts.path)
    return Address(target, retrieval_url=url, user_agent=agent)


def check_transport(url: str, allow_insecure: bool, name: str = "base_url") -> None:
    """Raise ConfigurationError unless the token may travel to this address: https, or http on this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        _check_host(host or "", in_brackets="[" in parts.netloc)
    except ValueError:
        host, parts = None, None
    if parts is None or not host or not host.rstrip(".") or parts.scheme not in ("http", "https"):
        raise ConfigurationError(
            f"{name} = {_without_userinfo(url)!r} cannot be used; it needs the form https://HOST/v1, or local:FOLDER."
        )
    if parts.username is not None or "?" in url or "#" in url or not url.isprintable() or " " in url:
        raise ConfigurationError(
            f"{name} = {_without_userinfo(url)!r} cannot be used; leave out user, query, fragment and spaces."
        )
    if parts.scheme == "http" and not _loopback(host) and not allow_insecure:
        raise ConfigurationError(
            f"{name} = {url!r} would send the token unencrypted to another machine; use https, "
            "or say allow_insecure=True."
        )


_FOUR_NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+){3}")


def _check_host(host: str, *, in_brackets: bool) -> None:
    """Raise ValueError for a host that no HTTP library would send to."""
    host.rstrip(".").encode("idna")  # refuses labels that are empty or too long
    if in_brackets or _FOUR_NUMBERS.fullmatch(host):
        ipaddress.ip_address(host)
    elif not host.isascii():
        import idna  # comes with httpx, which writes such hosts by its stricter rules

        idna.encode(host)


def _without_userinfo(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}".partition("?")[0][:200]


def _loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
