"""Runs a notebook from top to bottom, as a reader would, and makes its outputs fit to be stored."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
SECONDS = 60
"""What a notebook may take."""


def execute(path: Path, environment: Mapping[str, str], until: Callable[[], bool] | None = None) -> Any:
    """The executed notebook; raises where a cell does, or reaches for another machine. Ends early once `until` holds.

    Settings of this library come from `environment` alone.
    """
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # untyped library
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOKS)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR", *_CLOSED],  # it warns of its own loopback connection
    )
    ours = ("VECTORIZE_", "RAGE_", "CHAT_MODEL")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    with client.setup_kernel(env={**inherited, "MPLBACKEND": _INLINE, "PYTHONHASHSEED": "0", **environment}):
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
            if until is not None and until():
                break
    return notebook


_CLOSED = [f"--IPKernelApp.exec_lines=import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import loopback"]
_INLINE = "module://matplotlib_inline.backend_inline"


def fit_to_store(notebook: Any) -> Any:
    """The notebook without what changes from run to run and says nothing: versions, times, ids, second forms."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
        for output in cell.get("outputs", []):
            if output.output_type in ("display_data", "execute_result"):
                output.metadata = {}
                _keep_the_richest(output.data)
    return notebook


def _joined(outputs: list[Any]) -> list[Any]:
    """Text that was printed in one go, which arrives in as many pieces as it pleases."""
    joined: list[Any] = []
    for output in outputs:
        if joined and output.output_type == "stream" and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _keep_the_richest(data: dict[str, Any]) -> None:
    """A picture or a page says it all; the object's repr beside it would be another page of text."""
    if len(data) > 1:
        data.pop("text/plain", None)


def texts(notebook: Any) -> str:
    """Everything that the outputs show as text."""
    shown = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            shown.append(output.get("text", ""))
            data = output.get("data", {})
            shown += [data[kind] for kind in ("text/plain", "text/html") if kind in data]
    return "\n".join(shown)


def unfit(notebook: Any) -> list[str]:
    """What stored outputs must not hold: paths of a machine, warnings, errors, colour codes, addresses of objects."""
    found = [
        f"{output.output_type} {output.get('name', '')}: {str(output.get('text', output.get('evalue', '')))[:200]}"
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error" or output.get("name") == "stderr"
    ]
    paths = rf"{re.escape(str(ROOT))}\S*|/(?:home|Users|tmp|root|var)/\S+|/site-packages/\S*"
    for pattern in (paths, r"\w*Warning\b", r"\x1b\[", r" at 0x[0-9a-f]{6,}"):
        found += re.findall(pattern, texts(notebook))
    return found
