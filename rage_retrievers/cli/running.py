"""Asking a running service for what `rage_retrievers.asgi` tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ..errors import ConfigurationError, ConnectionFailedError, InvalidResponseError, NotFoundError

Url = Annotated[
    str,
    typer.Option("--url", metavar="URL", help="A running service that mounts rage_retrievers.asgi.app."),
]
DEFAULT_URL = "http://127.0.0.1:8000"


def fetch(url: str, path: str, *, holding: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Status and JSON object of `GET {url}/rage{path}`, which holds at least these names.

    Raises ConfigurationError for an address that cannot be used, NotFoundError where nothing of ours is mounted,
    ConnectionFailedError and InvalidResponseError for what their names say.
    """
    import httpx

    address = f"{url.rstrip('/').removesuffix('/rage')}/rage{path}"
    try:
        answer = httpx.get(address, headers={"accept": "application/json"}, timeout=10)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):
        raise ConfigurationError(f"--url {url!r} cannot be used; write http://HOST:PORT.") from None
    except httpx.HTTPError as error:
        raise ConnectionFailedError(
            f"Nothing answers at {address} ({type(error).__name__}); name a running service with --url."
        ) from None
    if answer.status_code == 404:
        raise NotFoundError(
            f"{address} is not found; the service must mount rage_retrievers.asgi.app(...) with what it is to show.",
            status=404,
        )
    try:
        said = answer.json()
    except ValueError:
        said = None
    if not isinstance(said, dict) or any(name not in said for name in holding):
        raise InvalidResponseError(
            f"{address} answered {answer.status_code} and not what rage_retrievers.asgi does; is it the right service?"
        )
    return answer.status_code, said
