"""The environment's proxy, for every engine alike."""

from __future__ import annotations

from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


@cache
def proxy_for(origin: str) -> str | None:
    """The proxy that the environment names for an origin, read once; None where the way is direct.

    Only https goes through one, in a tunnel: plain http would show the token to the proxy.
    """
    parts = urlsplit(origin)
    if parts.scheme != "https" or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    return proxies.get("https") or proxies.get("all")
