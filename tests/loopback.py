"""Nobody is spoken to but this machine: `import loopback` closes the process to every other address."""

from __future__ import annotations

import ipaddress
import sys

_LOCAL_NAMES = {None, "", "localhost", b"localhost"}


def _refuse_the_network(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host in _LOCAL_NAMES or str(host).endswith(".localhost"):
        return
    text = host.decode() if isinstance(host, bytes) else str(host)
    try:
        local = ipaddress.ip_address(text).is_loopback
    except ValueError:
        local = False
    if not local:
        raise RuntimeError(f"a test reached for the network: {text}")


sys.addaudithook(_refuse_the_network)
