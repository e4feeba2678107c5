"""A certificate authority that the engines trust while a test runs, and no other."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from rage_retrievers.engines import _network, _proxy


def server_context(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    """What a server of that name needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@contextmanager
def trusting(authority: trustme.CA, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process trusts this authority, and forgets it afterwards; what is kept for a process is made anew."""
    bundle = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    _forget()
    yield
    _forget()


def _forget() -> None:
    _network._made_tls_context.cache_clear()
    _network.sessions.forget()
    _proxy.proxy_for.cache_clear()
