"""How the httpx engine reaches a server: within a deadline, resuming TLS sessions, at an address it knows.

httpcore's own timeouts are per read, and its blocking connect waits for the resolver as long as the resolver likes. So
blocking streams know the instant by which the call must end, and names are looked up aside.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from functools import cache
from ipaddress import ip_address
from typing import Any

import httpcore
import httpx

from .._aside import aside

ADDRESS_SECONDS = 10.0
"""How long an address that answered stands for its name; short, so that a failover by DNS is followed."""

_REMEMBERED = 256
_GLANCE = 0.02
"""Seconds between two looks of a hedged request at whether another has won."""


class Sessions:
    """The TLS session that each server left last, so that a new connection resumes it."""

    def __init__(self) -> None:
        self._kept: dict[str, ssl.SSLSession] = {}

    def remember(self, connection: ssl.SSLSocket | ssl.SSLObject) -> None:
        """Keep the session; TLS 1.3 has one only after the first answer."""
        if connection.session is not None and connection.server_hostname:
            if len(self._kept) >= _REMEMBERED:
                self._kept.clear()
            self._kept[str(connection.server_hostname)] = connection.session

    def forget(self) -> None:
        """Keep none: the certificates that are trusted have changed."""
        self._kept.clear()

    def resume(self, connection: ssl.SSLSocket | ssl.SSLObject) -> None:
        """Offer the kept session; before the handshake."""
        kept = self._kept.get(str(connection.server_hostname))
        if kept is not None and connection.session is None:
            connection.session = kept


class _ResumingSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        sessions.resume(self)
        super().do_handshake(block)


class _ResumingObject(ssl.SSLObject):
    def do_handshake(self) -> None:
        sessions.resume(self)
        super().do_handshake()


sessions = Sessions()
_making_tls_context = threading.Lock()


def tls_context() -> ssl.SSLContext:
    """One context for every connection, with the certificates that httpx trusts, loaded once."""
    # `cache` alone lets threads that begin together each load the certificates, 20 ms of processor time a thread.
    with _making_tls_context:
        return _made_tls_context()


@cache
def _made_tls_context() -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    context.sslsocket_class = _ResumingSocket
    context.sslobject_class = _ResumingObject
    return context


class Addresses:
    """The address at which each name was reached last, so that a new connection need not ask the resolver again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[tuple[str, int], tuple[str, float]] = {}

    def known(self, host: str, port: int) -> str | None:
        """The address, unless it is too old."""
        address, until = self._known.get((host, port), ("", 0.0))
        return address if self._clock() < until else None

    def reached(self, host: str, port: int, peer: Any) -> None:
        """A connection was made to `peer`, a socket's address; one that is known already grows no younger by it."""
        if not is_address(host) and peer and self.known(host, port) != str(peer[0]):
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[host, port] = (str(peer[0]), self._clock() + ADDRESS_SECONDS)

    def forget(self, host: str, port: int) -> None:
        """No connection could be made there."""
        self._known.pop((host, port), None)


addresses = Addresses()


def is_address(host: str) -> bool:
    """Whether the host is an IP address, which no resolver need be asked for."""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _resolved(host: str, port: int, timeout: float) -> list[str]:
    """The name's addresses; raises httpcore's connect errors. The resolver cannot be interrupted, so it runs aside."""
    found = aside(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    try:
        return list(dict.fromkeys(str(entry[4][0]) for entry in found.result(timeout)))
    except TimeoutError:
        raise httpcore.ConnectTimeout("the name was not resolved in time") from None
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error


def is_readable(connection: Any) -> bool:
    """Whether the system holds bytes of a socket, or its end, that nobody has been told of yet."""
    return watch(connection)()


def watch(connection: Any) -> Callable[[], bool]:
    """`is_readable` of one socket, to be asked again and again, by one thread at a time."""
    if not hasattr(select, "poll"):  # Windows
        return lambda: bool(select.select([connection], [], [], 0)[0])
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return lambda: bool(poll.poll(0))


class Limit:
    """When the call must end that uses a blocking connection at the moment."""

    deadline = 0.0
    lost: threading.Event | None = None
    """Set once another request has won the race that this one runs in; None when it runs in none."""

    def remaining(self, late: type[Exception]) -> float:
        """Seconds until the deadline; raises `late` when it has passed."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise late("the deadline has passed")
        return left


class DeadlineStream(httpcore.NetworkStream):
    """A stream whose every read and write ends by the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, limit: Limit) -> None:
        self._stream = stream
        self._limit = limit

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        lost = self._limit.lost
        if lost is None:
            return self._stream.read(max_bytes, self._limit.remaining(httpcore.ReadTimeout))
        while True:
            try:
                return self._stream.read(max_bytes, min(_GLANCE, self._limit.remaining(httpcore.ReadTimeout)))
            except httpcore.ReadTimeout:
                if lost.is_set() or self._limit.remaining(httpcore.ReadTimeout) <= 0:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), 65_536):
            self._stream.write(buffer[start : start + 65_536], self._limit.remaining(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        remaining = self._limit.remaining(httpcore.ConnectTimeout)
        return DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, remaining), self._limit)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class DeadlineBackend(httpcore.NetworkBackend):
    """Blocking connections that are made, and used, within the deadline."""

    def __init__(self, limit: Limit) -> None:
        self._backend = httpcore.SyncBackend()
        self._limit = limit
        self._stream: httpcore.NetworkStream | None = None

    def close(self) -> None:
        """Close what was opened, also where httpcore never came to own it."""
        if self._stream is not None:
            self._stream.close()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception | None = None
        for address, share in self._candidates(host, port):
            seconds = share * self._limit.remaining(httpcore.ConnectTimeout)
            try:
                stream = self._backend.connect_tcp(address, port, seconds, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                addresses.forget(host, port)
                failure = failure or error
            else:
                self._stream = stream
                addresses.reached(host, port, stream.get_extra_info("server_addr"))
                return DeadlineStream(stream, self._limit)
        assert failure is not None  # a name has an address, or its look-up has raised
        raise failure

    def _candidates(self, host: str, port: int) -> Iterable[tuple[str, float]]:
        """Where to try, and with which share of the time that is left; the resolver is asked only where it must be."""
        if is_address(host):
            yield host, 1.0
            return
        known = addresses.known(host, port)
        if known is not None:
            yield known, 0.5
        found = _resolved(host, port, self._limit.remaining(httpcore.ConnectTimeout))
        for number, address in enumerate(found):
            yield address, 1 / (len(found) - number)
