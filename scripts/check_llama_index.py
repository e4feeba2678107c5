"""Try the LlamaIndex retriever with the lowest and the newest llama-index-core that are supported, as a user has them.

python scripts/check_llama_index.py [VERSION ...]    both unless versions are named

Each version gets a clean environment with the package built and installed, in which the retriever's tests run and a
consumer's code is type-checked with `mypy --strict` and no other settings. Needs the package index. Prints a table; the
exit status is 1 when anything failed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = ("blockbuster", "hypothesis", "mypy", "opentelemetry-sdk", "pytest", "pytest-asyncio")
FACE = ROOT / "tests" / "llama_index_face"


def supported() -> tuple[str, str]:
    """The lowest version, as pyproject.toml has it, and the newest tested, as constraints.txt has it."""
    lowest = re.search(r"llama-index-core>=([\d.]+)", (ROOT / "pyproject.toml").read_text())
    newest = re.search(r"^llama-index-core==([\d.]+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert lowest is not None
    assert newest is not None
    return lowest[1], newest[1]


def run(*command: str | Path, cwd: Path) -> tuple[bool, str]:
    """Whether the command succeeded, and the end of what it said."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.returncode == 0, done.stdout.strip()[-600:]


def attempt(version: str, scratch: Path) -> list[tuple[str, bool, str]]:
    """The rows of one version."""
    venv.create(scratch / "env", with_pip=True)
    python = scratch / "env" / "bin" / "python"
    pins = (ROOT / "constraints.txt").read_text()
    constraints = scratch / "constraints.txt"
    constraints.write_text(re.sub(r"^llama-index-.*\n", "", pins, flags=re.MULTILINE))
    package = f"{ROOT}[llama-index,langchain,cache,local,otel]"
    install = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", constraints)
    installed, said = run(*install, package, f"llama-index-core=={version}", *TOOLS, cwd=scratch)
    if not installed:
        return [("installation", False, said)]
    shutil.copytree(ROOT / "tests", scratch / "tests")
    consumer = scratch / "consumer"
    consumer.mkdir()
    shutil.copy(FACE / "typing_api.py", consumer / "app.py")
    # Of a dependency's own warnings an application sees what its filters show.
    options = ("-o", "asyncio_mode=auto", "-o", "pythonpath=tests", "--import-mode=importlib", "-q")
    return [
        ("tests", *run(python, "-m", "pytest", *options, "tests/llama_index_face", cwd=scratch)),
        ("types", *run(python, "-m", "mypy", "--strict", "--config-file=", "app.py", cwd=consumer)),
    ]


def main() -> int:
    """Try, and print."""
    failed = False
    for version in sys.argv[1:] or supported():
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            for what, good, said in attempt(version, Path(folder)):
                failed |= not good
                print(f"{'ok' if good else 'FAILED':7} {version:10} {what:14}{'' if good else said}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
