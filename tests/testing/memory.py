"""Run in a process of its own: prints by how many bytes the process grew at its peak.

memory.py server                       serve 300 MB and a bomb to a client that only counts
memory.py client WORLD URL [URL ...]   ask each URL once with the default bound of 16 MiB
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def peak() -> int:
    """The most memory this process had resident so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux the figure of getrusage is inherited from the parent
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def serve() -> int:
    from rage_retrievers.testing import FAULTS, FaultServer, status
    from testing import raw

    with FaultServer(status(503)) as server:
        raw.ask(server.url)
        before = peak()
        for name in ("size/body-300mb", "size/gzip-bomb"):
            server.play(FAULTS[name].script)
            raw.drain(server.url)
    return peak() - before


def ask(world: str, urls: list[str]) -> int:
    from rage_retrievers.errors import RageError
    from testing.engines import WORLDS

    with WORLDS[world]() as ask:
        before = 0
        for url in urls:
            try:
                ask(url, timeout=10.0, max_bytes=16 * 1024 * 1024)
            except RageError as error:
                print(url, type(error).__name__, file=sys.stderr)
            before = before or peak()  # after the first, which is a healthy call
    return peak() - before


if __name__ == "__main__":
    print(serve() if sys.argv[1] == "server" else ask(sys.argv[2], sys.argv[3:]))
