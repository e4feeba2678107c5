"""Run the notebooks and store their outputs: `make notebooks`.

    python scripts/run_notebooks.py [NAME …]

Each runs offline in a fresh kernel with an empty cache. Outputs that hold a path, a warning or an error are refused.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from notebooks.running import NOTEBOOKS, execute, fit_to_store, unfit  # noqa: E402


def main() -> int:
    """Run; 1 where the outputs of one are unfit to be stored."""
    chosen = [NOTEBOOKS / f"{name}.ipynb" for name in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*.ipynb"))
    failed = 0
    for path in chosen:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as cache:
            notebook = fit_to_store(execute(path, {"RAGE_CACHE_DIR": cache}))
        problems = unfit(notebook)
        if problems:
            failed += 1
            print(f"{path.name}: not stored: {problems}")
        else:
            nbformat.write(notebook, path)
            print(f"{path.name}: {time.perf_counter() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
