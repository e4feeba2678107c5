"""The embedded service over HTTP, from a thread of this process."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Sequence
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local.service import LocalService

if TYPE_CHECKING:
    from starlette.routing import BaseRoute


class LocalServer:
    """Serves from a daemon thread from `with` (or `start`) until its end (or `stop`); port 0 takes any free port.

    Listens on a loopback address; any other `host` needs a service with an `api_key`, else `ConfigurationError`. For
    `routes` and `loop_waits` see `asgi_app`.
    """

    def __init__(
        self,
        service: LocalService,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        routes: Sequence[BaseRoute] = (),
        loop_waits: bool = False,
    ) -> None:
        from rage_retrievers.local.asgi import PromptServer, asgi_app  # loaded while the first documents are read

        if not is_loopback(host) and not service.has_api_key:
            raise ConfigurationError(
                f"host {host!r} can be reached from other machines: give an api_key, or use 127.0.0.1"
            )
        self._socket = _listen(host, port)
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        hosts = is_loopback if is_loopback(host) else None
        self._server = PromptServer(asgi_app(service, hosts=hosts, routes=routes, loop_waits=loop_waits))
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL to give to a client."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v1"

    def start(self) -> LocalServer:
        """Return once connections are answered."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="rage-local-server", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """Stop answering; requests under way have a second to end."""
        self._server.end()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Whether a name or address can only mean this machine."""
    if host.lower() in ("localhost", "testserver"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With protocol 0 asyncio does not set TCP_NODELAY, and every kept-alive request waits 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        # Listening from here on: a client that connects before the thread runs waits instead of being refused.
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ConfigurationError(f"cannot listen on {host} port {port} ({error.strerror}): choose another") from error
    return listening
