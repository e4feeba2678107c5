"""Build the package and try it as a user gets it: contents, metadata, and each extra alone in a clean environment.

python scripts/check_package.py [EXTRA ...]    all extras unless some are named; "core" is the package without one

Needs the package index, and nothing installed beside Python. Prints a table; the exit status is 1 when anything failed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
MOST_BYTES = 500_000
TOOLS = Path("tools", "bin", "python")

_ASK = """
from rage_retrievers.testing import FaultServer, answer
with FaultServer(answer(documents=2)) as server:
    where = dict(base_url=server.url, api_key="any", organization="o", pipeline_id="p")
"""

SMOKE = {
    "core": _ASK
    + """
    from rage_retrievers import ConfigurationError, VectorizeClient
    with VectorizeClient(**where) as client:
        assert len(client.retrieve("What?")) == 2
import importlib, sys
assert not {"langchain_core", "llama_index", "opentelemetry", "starlette"} & set(sys.modules)
for module, extra in {"langchain": "langchain", "llama_index": "llama-index"}.items():
    try:
        importlib.import_module(f"rage_retrievers.{module}")
    except ImportError as error:
        assert f"rage-retrievers[{extra}]" in str(error), error
    else:
        raise AssertionError(f"rage_retrievers.{module} was imported without its framework")
try:
    VectorizeClient(base_url="local:.")
except ConfigurationError as error:
    assert "rage-retrievers[local]" in str(error), error
else:
    raise AssertionError("the embedded pipeline was opened without its extra")
""",
    "langchain": _ASK
    + """
    from rage_retrievers.langchain import VectorizeRetriever
    assert len(VectorizeRetriever(**where).invoke("What?")) == 2
""",
    "llama-index": _ASK
    + """
    from rage_retrievers.llama_index import VectorizeRetriever
    assert len(VectorizeRetriever(**where).retrieve("What?")) == 2
""",
    "local": """
import os, pathlib
os.environ["RAGE_CACHE_DIR"] = "cache"
pathlib.Path("handbook").mkdir()
pathlib.Path("handbook/leave.md").write_text("Everybody has 30 days of leave a year.")
from rage_retrievers import VectorizeClient
with VectorizeClient(base_url="local:handbook") as client:
    assert client.retrieve("How much leave?").documents[0].source == "leave.md"
""",
    "fast": _ASK
    + """
    from rage_retrievers import VectorizeClient
    with VectorizeClient(**where, engine="httptools") as client:
        assert len(client.retrieve("What?")) == 2
""",
    "cache": _ASK
    + """
    from rage_retrievers import Cache, VectorizeClient, default_pipeline
    client = VectorizeClient(**where, resilience=default_pipeline().with_policies(Cache()))
    assert [client.retrieve("What?").attempts for _ in range(2)] == [1, 0]
""",
    "metrics": _ASK
    + """
    from rage_retrievers import VectorizeClient
    from rage_retrievers.observability import Metrics
    from rage_retrievers.observability.prometheus import exposition
    metrics = Metrics()
    VectorizeClient(**where, listeners=[metrics]).retrieve("What?")
    assert b"rage_retrieval_documents_total" in exposition(metrics)[0]
""",
    "otel": _ASK
    + """
    from rage_retrievers import VectorizeClient
    from rage_retrievers.observability import Tracing
    assert len(VectorizeClient(**where, listeners=[Tracing()]).retrieve("What?")) == 2
""",
    "asgi": """
from rage_retrievers.asgi import app
assert len(app().routes) == 5
""",
    "cli": """
import subprocess, sys, pathlib
rage = str(pathlib.Path(sys.executable).with_name("rage"))
assert subprocess.run([rage, "--version"], capture_output=True, check=True).stdout.startswith(b"rage-retrievers ")
assert subprocess.run([rage, "validate-config"], capture_output=True).returncode == 2
""",
}
SMOKE["all"] = "import os\n" + "\n".join(SMOKE[extra] for extra in SMOKE if extra != "core")


class Check(NamedTuple):
    """One line of the table."""

    what: str
    good: bool
    said: str


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The finished command, its output in one text."""
    return subprocess.run(
        list(map(str, command)), cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )


def pip(scratch: Path, *arguments: str | Path) -> None:
    """That command of the tools' pip, which serves every environment."""
    done = run(scratch / TOOLS, "-m", "pip", "--disable-pip-version-check", *arguments, cwd=scratch)
    if done.returncode:
        raise RuntimeError(done.stdout.strip()[-500:])


def gather(scratch: Path, *packages: str) -> Path:
    """A folder with the wheels of these and all that they need, in the versions this release was tested with."""
    wheels = scratch / "wheels"
    pip(scratch, "wheel", "-q", "-c", ROOT / "constraints.txt", "-w", wheels, *packages)
    return wheels


def environment(folder: Path, package: str, wheels: Path) -> Path:
    """A clean environment with this package and what its metadata asks for, from those wheels alone; its Python."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    # Of hundreds of modules few are imported, and those are compiled then.
    wanted = ("install", "-q", "--no-compile", "--no-index", "--find-links", wheels, package)
    pip(folder.parent, "--python", python, *wanted)
    return python


def build(scratch: Path) -> tuple[list[Check], Path | None]:
    """Build wheel and sdist and look at them; the wheel, if there is one."""
    python = scratch / TOOLS
    venv.create(python.parents[1], with_pip=True)
    for packages in (["pip"], ["build", "twine"]):
        pip(scratch, "install", "-q", "--no-compile", "-c", ROOT / "constraints.txt", *packages)
    dist = scratch / "dist"
    built = run(python, "-m", "build", "--outdir", dist, ROOT, cwd=scratch)
    wheel, sdist = next(dist.glob("*.whl"), None), next(dist.glob("*.tar.gz"), None)
    if wheel is None or sdist is None:
        return [Check("build", False, built.stdout.strip()[-500:])], None
    checked = run(python, "-m", "twine", "--no-color", "check", "--strict", wheel, sdist, cwd=scratch)
    return [
        Check("twine check", checked.returncode == 0, " ".join(re.sub(r"\S*/", "", checked.stdout).split())),
        *_wheel(wheel),
        _sdist(sdist),
    ], wheel


def _wheel(wheel: Path) -> list[Check]:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    strangers = [name for name in names if not name.startswith("rage_retrievers") or _is_litter(name)]
    return [
        Check("wheel's size", wheel.stat().st_size < MOST_BYTES, f"{wheel.stat().st_size:,} of {MOST_BYTES:,} bytes"),
        Check("wheel's files", not strangers, f"{len(names)} files" if not strangers else f"also {strangers[:5]}"),
        Check("licence in the wheel", any(name.endswith("/LICENSE") for name in names), "dist-info/licenses/LICENSE"),
        Check("py.typed in the wheel", "rage_retrievers/py.typed" in names, "rage_retrievers/py.typed"),
    ]


def _sdist(sdist: Path) -> Check:
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    litter = [name for name in names if _is_litter(name)]
    said = f"{len(names)} files, {sdist.stat().st_size:,} bytes"
    return Check("sdist", not litter, f"{said}, also {litter[:5]}" if litter else said)


def _is_litter(name: str) -> bool:
    return bool(re.search(r"__pycache__|\.pyc$|/\.(?!env\.example|gitignore)|_cache/|/site/|/\.venv", name))


def requirement(extra: str, wheel: Path) -> str:
    """The wheel with this extra, as pip wants it."""
    return str(wheel) if extra == "core" else f"{wheel}[{extra}]"


def smoke(extra: str, wheel: Path, wheels: Path) -> Check:
    """The wheel with this extra alone, in a clean environment."""
    began = time.monotonic()
    folder = wheels.parent / f"extra-{extra}"
    try:
        python = environment(folder, requirement(extra, wheel), wheels)
    except RuntimeError as error:
        return Check(extra, False, str(error))
    work = folder / "work"
    work.mkdir()
    done = run(python, "-W", "error::DeprecationWarning:rage_retrievers", "-c", SMOKE[extra], cwd=work)
    packages = len(list(folder.glob("lib/python*/site-packages/*.dist-info")))
    said = f"{packages} packages, {time.monotonic() - began:.0f} s"
    return Check(f"extra {extra}", done.returncode == 0, said if done.returncode == 0 else done.stdout.strip()[-400:])


def attempt(extras: list[str], scratch: Path) -> Iterator[Check]:
    """Build, look, try: each line as soon as it is known."""
    try:
        checks, wheel = build(scratch)
        yield from checks
        if wheel is None:
            return
        # Fetched once for all: an index need not be asked eleven times for the same packages.
        wheels = gather(scratch, *(requirement(extra, wheel) for extra in extras))
    except RuntimeError as error:
        yield Check("installation", False, str(error))
        return
    for extra in extras:
        yield smoke(extra, wheel, wheels)


def main() -> int:
    """Try, and print."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        good = [_show(check) for check in attempt(sys.argv[1:] or list(SMOKE), Path(folder))]
    return int(not all(good))


def _show(check: Check) -> bool:
    print(f"{'ok' if check.good else 'FAILED':7} {check.what:24} {check.said}", flush=True)
    return check.good


if __name__ == "__main__":
    sys.exit(main())
