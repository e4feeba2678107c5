"""Try each retriever with the lowest and the newest core of its framework that is supported, as a user has them.

python scripts/check_cores.py [llama-index | langchain [VERSION ...]]    both frameworks and versions unless named

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
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = ("blockbuster", "hypothesis", "mypy", "opentelemetry-sdk", "pytest", "pytest-asyncio")


@dataclass(frozen=True)
class Framework:
    """A framework's core, and what its retriever's tests need."""

    core: str
    free: str
    """The packages, as a pattern, whose versions follow from the core's."""
    extras: str
    tools: tuple[str, ...]
    tests: Path
    consumer: str

    def supported(self) -> tuple[str, str]:
        """The lowest version, as pyproject.toml has it, and the newest tested, as constraints.txt has it."""
        lowest = re.search(rf"{self.core}>=([\d.]+)", (ROOT / "pyproject.toml").read_text())
        newest = re.search(rf"^{self.core}==([\d.]+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
        assert lowest is not None
        assert newest is not None
        return lowest[1], newest[1]


FRAMEWORKS = {
    "llama-index": Framework(
        core="llama-index-core",
        free=r"llama-index-",
        extras="llama-index,langchain,cache,local,otel",
        tools=(),
        tests=Path("tests/llama_index_face"),
        consumer="typing_api.py",
    ),
    "langchain": Framework(
        core="langchain-core",
        free=r"lang(?:chain|graph|smith)|packaging|pytest|syrupy|vcrpy",
        extras="langchain,cache,local,otel",
        # Two releases for LangGraph 1.0 import what only a later LangGraph has.
        tools=("langchain>=1.2", "langchain-classic", "langchain-tests", "langgraph-prebuilt!=1.0.9,!=1.0.10"),
        tests=Path("tests/langchain_face"),
        consumer="typing_uses.py",
    ),
}


def run(*command: str | Path, cwd: Path) -> tuple[bool, str]:
    """Whether the command succeeded, and the end of what it said."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.returncode == 0, done.stdout.strip()[-600:]


def attempt(framework: Framework, version: str, scratch: Path) -> list[tuple[str, bool, str]]:
    """The rows of one version."""
    venv.create(scratch / "env", with_pip=True)
    python = scratch / "env" / "bin" / "python"
    pins = (ROOT / "constraints.txt").read_text()
    constraints = scratch / "constraints.txt"
    constraints.write_text(re.sub(rf"^(?:{framework.free}).*\n", "", pins, flags=re.MULTILINE))
    install = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", constraints)
    wanted = (f"{ROOT}[{framework.extras}]", f"{framework.core}=={version}", *TOOLS, *framework.tools)
    installed, said = run(*install, *wanted, cwd=scratch)
    if not installed:
        return [("installation", False, said)]
    shutil.copytree(ROOT / "tests", scratch / "tests")
    consumer = scratch / "consumer"
    consumer.mkdir()
    shutil.copy(ROOT / framework.tests / framework.consumer, consumer / "app.py")
    # Of a dependency's own warnings an application sees what its filters show.
    options = ("-o", "asyncio_mode=auto", "-o", "pythonpath=tests", "--import-mode=importlib", "-q")
    return [
        ("tests", *run(python, "-m", "pytest", *options, framework.tests, cwd=scratch)),
        ("types", *run(python, "-m", "mypy", "--strict", "--config-file=", "app.py", cwd=consumer)),
    ]


def main(name: str | None = None, *versions: str) -> int:
    """Try, and print."""
    failed = False
    for framework in [FRAMEWORKS[name]] if name else FRAMEWORKS.values():
        for version in versions or framework.supported():
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                for what, good, said in attempt(framework, version, Path(folder)):
                    failed |= not good
                    shown = f"{framework.core} {version}"
                    print(f"{'ok' if good else 'FAILED':7} {shown:26} {what:14}{'' if good else said}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
