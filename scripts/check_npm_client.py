"""Try the vendor's npm client, as published, against the embedded service: pipelines, retrieval, uploads.

python scripts/check_npm_client.py [VERSION]    0.4.0 unless told

Needs node, npm and the npm registry; says which is missing and does nothing then. The exit status is 1 when the client
does not work.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalServer, LocalService

CLIENT = "@vectorize-io/vectorize-client"
STEPS = Path(__file__).with_suffix(".mjs")


def missing(home: Path, version: str) -> str:
    """Why the client cannot be had; empty once it is installed in `home`."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "node and npm are not installed"
    # Its preinstall script would fetch a compiler that the published files do not need.
    install = [
        npm,
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--prefix",
        str(home),
        f"{CLIENT}@{version}",
    ]
    done = subprocess.run(install, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return f"npm could not install {CLIENT} {version}:\n{done.stdout.strip()[-600:]}" if done.returncode else ""


def main() -> int:
    """Install the client, serve two documents, run the steps."""
    version = sys.argv[1] if len(sys.argv) > 1 else "0.4.0"
    with tempfile.TemporaryDirectory() as scratch:
        home, docs = Path(scratch, "npm"), Path(scratch, "docs")
        home.mkdir()
        if reason := missing(home, version):
            print(f"skipped: {reason}")
            return 0
        docs.mkdir()
        (docs / "bees.md").write_text("Honey bees dance to tell each other where the flowers are.")
        (docs / "engines.md").write_text("---\nyear: 1999\n---\nA two stroke engine fires in every revolution.")
        with LocalService.open(docs, cache_dir=Path(scratch, "cache")) as service, LocalServer(service) as server:
            steps = ["node", str(STEPS), str(home), server.url, LOCAL_ORGANIZATION, LOCAL_PIPELINE]
            held = subprocess.run(steps, check=False).returncode == 0
    print(f"{CLIENT} {version}: {'works unmodified' if held else 'FAILED'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
