"""From settings to a connection: which address, whose token, which engine. Checked before anything is sent."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ._checks import typed
from ._credential import Credential
from ._endpoint import ENVIRONMENTS, Address
from ._version import __version__
from .engines import Engines, embedded, engines_named
from .errors import ConfigurationError
from .models import Target

if TYPE_CHECKING:
    from .settings import VectorizeSettings

LOCAL = "local:"
_MIB = 1024 * 1024


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
        raise ConfigurationError(f"settings is {typed(given)}; give what VectorizeSettings.load(...) returns.")


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
        checked_id(settings.organization or LOCAL_ORGANIZATION, "organization"),
        checked_id(settings.pipeline_id or LOCAL_PIPELINE, "pipeline_id"),
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
        raise ConfigurationError(f"{name} is {typed(value)}; an id is a text.")
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
