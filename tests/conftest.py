"""What every test stands on: no network but loopback, no settings of the machine, no state of an earlier test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import loopback  # noqa: F401  # closes the network
import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

from rage_retrievers._secrets import secrets_in_use
from rage_retrievers.engines import _lanes
from rage_retrievers.resilience.pipeline import shared_homes

# How long an example takes on a busy machine says nothing of the property it is an example of.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def published() -> bytes:
    """The one answer of the real service that is published."""
    return (Path(__file__).parent / "cassettes" / "published.json").read_bytes()


@pytest.fixture
def nothing_blocks() -> Iterator[BlockBuster]:
    """Whatever of ours blocks a running event loop is an error; blocking code outside of one is left alone."""
    with blockbuster_ctx("rage_retrievers") as watch:
        yield watch


@pytest.fixture(scope="session")
def _desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cwd")


@pytest.fixture(autouse=True)
def _clean_slate(monkeypatch: pytest.MonkeyPatch, _desk: Path) -> Iterator[None]:
    for name in os.environ:
        if name.startswith(("VECTORIZE_", "RAGE_")) and name not in {"RAGE_TEST_IR", "RAGE_CACHE_DIR"}:
            monkeypatch.delenv(name)
    # A .env of the working directory is read, so tests work in an empty one; making one for each took a tenth of all.
    monkeypatch.chdir(_desk)
    _forget()
    yield
    _forget()
    if os.listdir(_desk):
        shutil.rmtree(_desk)
        _desk.mkdir()


def _forget() -> None:
    shared_homes._homes.clear()
    _close_lanes()
    secrets_in_use._values.clear()
    secrets_in_use._forms = ()


def _close_lanes() -> None:
    """An engine's idle connections live as long as the process, so those of thousands of servers would add up."""
    for lanes in list(_lanes._every):
        for lane in lanes.drain():
            close = getattr(lane, "close", None) or getattr(lane, "abandon", None)
            if close is not None:
                close()
