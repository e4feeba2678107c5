"""Record the cassettes: `make cassettes` against the embedded pipeline and the fault server, `make cassettes LIVE=1`
against the real service.

    python scripts/record_cassettes.py [--live] [NAME …]

Live recording needs VECTORIZE_API_KEY, VECTORIZE_ORGANIZATION_ID and VECTORIZE_PIPELINE_ID (and VECTORIZE_BASE_URL or
VECTORIZE_ENV where it is not production); each question costs one retrieval. What the service cannot be made to do,
such as failing, is recorded from the fault server all the same. A cassette is replaced only where its promise held.
Passages are your documents' own text: personal data in them is redacted by pattern, but read them before you publish
them. Nobody has run this against the real service yet.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from cassettes.asking import blocking, located, outcome, settings  # noqa: E402
from cassettes.promises import PROMISES, Promise  # noqa: E402
from cassettes.scrub import ORGANIZATION, PIPELINE, findings  # noqa: E402
from cassettes.tape import CASSETTES, record  # noqa: E402

from rage_retrievers import ConfigurationError, VectorizeSettings, __version__  # noqa: E402
from rage_retrievers._endpoint import ENVIRONMENTS  # noqa: E402
from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalServer, LocalService  # noqa: E402
from rage_retrievers.testing import FaultServer  # noqa: E402

DOCUMENTS = ROOT / "tests" / "cassettes" / "documents"
TOKEN = "the-recording-token"


class Source:
    """Whom the promises of the pipeline are asked of: how it is reached, and what it is called in the header."""

    def __init__(self, called: str, connection: dict[str, Any], names: dict[str, str], polling: dict[str, Any]) -> None:
        self.called = called
        self.connection = connection
        self.names = names
        self.polling = polling


class Held(Executor):
    """Does work only when released, so that a research is not ready at its first poll."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], object]] = []

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        self._waiting.append(lambda: work(*arguments, **keywords))
        return Future()

    def release(self, _: object) -> None:
        """Do what waits."""
        while self._waiting:
            self._waiting.pop()()


@contextmanager
def embedded() -> Iterator[Source]:
    held = Held()
    with tempfile.TemporaryDirectory() as cache:
        service = LocalService.open(DOCUMENTS, cache_dir=Path(cache), api_key=TOKEN, executor=held)
        with service, LocalServer(service) as server:
            connection = {"base_url": server.url, "organization": LOCAL_ORGANIZATION, "pipeline_id": LOCAL_PIPELINE}
            names = {LOCAL_ORGANIZATION: ORGANIZATION, LOCAL_PIPELINE: PIPELINE}
            called = f"the embedded pipeline of rage-retrievers {__version__}, over tests/cassettes/documents"
            yield Source(called, {**connection, "api_key": TOKEN}, names, {"on_progress": held.release})


@contextmanager
def live() -> Iterator[Source]:
    found = VectorizeSettings.load()
    if not (found.api_key and found.organization and found.pipeline_id):
        raise ConfigurationError("set VECTORIZE_API_KEY, VECTORIZE_ORGANIZATION_ID and VECTORIZE_PIPELINE_ID.")
    connection: dict[str, Any] = {
        "api_key": found.api_key,
        "organization": found.organization,
        "pipeline_id": found.pipeline_id,
        "environment": found.environment,
    }
    if found.base_url:
        connection["base_url"] = found.base_url
    names = {found.organization: ORGANIZATION, found.pipeline_id: PIPELINE}
    called = f"the service at {found.base_url}" if found.base_url else f"the real service ({found.environment})"
    yield Source(called, connection, names, {"poll_every": 2.0})


def header(promise: Promise, called: str) -> str:
    """The first lines of a cassette."""
    if promise.quoted:
        called = (
            "a published answer of the real service: first document quoted, shortened where it says …; of the others "
            "only the scores were published; the request is ours; played by the fault server"
        )
    return (
        f"# promise: {promise.says}\n# recorded against: {called}\n"
        f"# recorded on: {datetime.now(UTC):%Y-%m-%d}\n# record again: make cassettes\n"
    )


def recorded(promise: Promise, source: Source, path: Path) -> None:
    """Record one promise; raises where it does not hold."""
    if promise.script is None:
        with record(path, header(promise, source.called), source.names) as tape:
            options = settings(promise, tape, **source.connection)
            taped = outcome(lambda: blocking(promise, options, **source.polling), tape)
            promise.check(taped)
        return
    called = f"the fault server of rage-retrievers {__version__}"
    with (
        FaultServer(promise.script) as server,
        record(path, header(promise, called), None, scrubbed=not promise.quoted) as tape,
    ):
        where = located(promise, server.url)
        with environment_at(promise.environment, server.url):
            promise.check(outcome(lambda: blocking(promise, settings(promise, tape, **where)), tape))


def environment_at(name: str | None, url: str) -> AbstractContextManager[object]:
    """The service's environment of this name, played by the server at `url`."""
    path = urlsplit(ENVIRONMENTS[name]).path if name else ""
    return patch.dict(ENVIRONMENTS, {name: url.removesuffix("/v1") + path} if name else {})


def main() -> int:
    """Record; 1 where a promise did not hold or a secret was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="cassettes to record; all by default")
    parser.add_argument("--live", action="store_true", help="ask the real service, as the environment says")
    parser.add_argument("--into", type=Path, default=CASSETTES, help="the folder to write to; cassettes/ by default")
    given = parser.parse_args()
    try:
        failed = record_all([PROMISES[name] for name in given.names] or list(PROMISES.values()), given.into, given.live)
    except ConfigurationError as error:
        parser.error(str(error))
    return 1 if failed else 0


def record_all(promises: list[Promise], into: Path, from_service: bool) -> int:
    """Record these promises; how many could not be."""
    into.mkdir(exist_ok=True)
    failed = 0
    with live() if from_service else embedded() as source, tempfile.TemporaryDirectory() as scratch:
        for promise in promises:
            fresh = Path(scratch) / f"{promise.name}.yaml"
            try:
                recorded(promise, source, fresh)
                leaks = [] if promise.quoted else findings(fresh.read_text("utf-8"))
                assert not leaks, f"left in the cassette: {len(leaks)} findings"
            except Exception as error:
                failed += 1
                print(f"{promise.name}: not recorded ({type(error).__name__}: {str(error)[:200]})")
            else:
                (into / fresh.name).write_bytes(fresh.read_bytes())
    print(f"{len(promises) - failed} cassettes recorded, {failed} not")
    return failed


if __name__ == "__main__":
    sys.exit(main())
