"""The notebooks run from top to bottom, offline, as a reader would run them, and show what they show today."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from notebooks.running import NOTEBOOKS, SECONDS, execute, unfit
from rage_retrievers.testing import FaultServer, answer

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
each = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # untyped library


def kinds(notebook: Any) -> list[list[str]]:
    """What each cell shows: text, a page, a picture."""
    return [
        sorted({output.output_type + "".join(sorted(output.get("data", {}).keys() - {"text/plain"}))
                for output in cell.get("outputs", ())})
        for cell in notebook.cells
    ]  # fmt: skip


@pytest.mark.filterwarnings("default")
@each
def test_a_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    """No cell of it fails, without an account, with an empty cache, and with no network but this machine; within a
    minute; and every cell shows what is stored with it, in kind."""
    began = time.monotonic()
    done = execute(path, {"RAGE_CACHE_DIR": str(tmp_path / "cache")})
    assert time.monotonic() - began < SECONDS
    assert kinds(done) == kinds(read(path))
    assert unfit(done) == []


@pytest.mark.filterwarnings("default")
@each
def test_a_notebook_asks_the_service_that_the_environment_names(path: Path, tmp_path: Path) -> None:
    """Three variables and an address are all it takes; its own first questions arrive there, with the token."""
    cache = tmp_path / "cache"
    with FaultServer(answer(5)) as server:
        account = {"API_KEY": "the-token", "ORGANIZATION_ID": "acme", "PIPELINE_ID": "aip-1", "BASE_URL": server.url}
        environment = {f"VECTORIZE_{name}": value for name, value in account.items()}
        execute(path, {**environment, "RAGE_CACHE_DIR": str(cache)}, until=lambda: bool(server.requests))
        first = server.requests[0]
    assert first.path == "/v1/org/acme/pipelines/aip-1/retrieval"
    assert first.headers["authorization"] == "Bearer the-token"
    assert not cache.exists()  # no folder was indexed


@each
def test_a_notebook_shows_its_outputs(path: Path) -> None:
    """What it shows is stored with it, and holds no path of a machine, no warning and no error."""
    notebook = read(path)
    assert any(kinds(notebook))
    assert unfit(notebook) == []


@pytest.mark.parametrize(("name", "pictures"), [("04_resilience", 3), ("05_observability", 2), ("06_evaluate", 3)])
def test_a_notebook_stores_its_plots(name: str, pictures: int) -> None:
    """Latency, circuit and retries over time; the waterfall of a trace; the ways to search compared."""
    shown = kinds(read(NOTEBOOKS / f"{name}.ipynb"))
    assert sum("display_dataimage/png" in cell for cell in shown) == pictures


def test_a_notebook_that_reaches_for_another_machine_fails(tmp_path: Path) -> None:
    """Offline is enforced, and not only where there happens to be no network."""
    cell = nbformat.v4.new_code_cell("import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=1)")  # type: ignore[no-untyped-call]  # untyped library
    path = tmp_path / "curious.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)  # type: ignore[no-untyped-call]  # untyped library
    with pytest.raises(CellExecutionError, match="reached for the network"):
        execute(path, {})
