"""Speed and memory of the embedded pipeline beside their bars.

    python benchmarks/local_speed.py [--passages 185000] [--files 10000]
    python benchmarks/local_speed.py --smoke    # that it runs: everything small, so the figures say nothing

Texts are sentences of the standard library's docstrings, shuffled into new passages; questions are stretches of such
sentences. Figures of a start are of a new process, from its beginning on. Numeric libraries are held to one thread. On
a machine that is busy with something else the clock says little: read the figures of processor time then. The bars
were set on a machine of which two figures of other people's work are known; what those take here is told beside them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

WORDS = 125
PER_FILE = 10
QUESTIONS = 400
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Bar:
    """A figure, what it must be at most (or at least), and its unit."""

    name: str
    value: float
    bar: float
    unit: str
    at_least: bool = False

    @property
    def held(self) -> bool:
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{self.name:<58}{self.value:>10,.2f} {self.unit:<9}{sign} {self.bar:,g} {verdict(self.held)}"


def tell(name: str, value: float, unit: str) -> None:
    """A figure without a bar."""
    print(f"{'  ' + name:<58}{value:>10,.2f} {unit}", flush=True)


def verdict(held: bool) -> str:
    return "held" if held else "MISSED"


@cache
def sentences() -> list[str]:
    """Some tens of thousands of sentences that people wrote."""
    found: set[str] = set()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*/*.py")) + sorted(
        Path(sysconfig.get_path("stdlib")).glob("*.py")
    ):
        for doc in re.findall(r'"""(.*?)"""', path.read_text("utf-8", "replace"), re.DOTALL):
            found.update(s for s in re.split(r"(?<=[.!?])\s+", " ".join(doc.split())) if 4 < s.count(" ") < 60)
    return sorted(found)


def passages(count: int, seed: int = 0) -> Iterator[str]:
    """Passages of about 125 words, each with a word of its own."""
    shuffled = random.Random(seed)
    for number in range(count):
        said: list[str] = []
        while sum(s.count(" ") + 1 for s in said) < WORDS:
            said.append(shuffled.choice(sentences()))
        yield " ".join(said) + f" Item{number}."


def questions(count: int = QUESTIONS) -> list[str]:
    """Eight neighbouring words of a sentence, or all of a shorter one."""
    shuffled = random.Random(1)
    found = []
    for _ in range(count):
        words = shuffled.choice(sentences()).split()
        start = shuffled.randrange(max(len(words) - 8, 1))
        found.append(" ".join(words[start : start + 8]))
    return found


def write_large(folder: Path, count: int, files: int) -> None:
    """`count` passages over `files` text files; a passage is about half of what a chunk may hold."""
    folder.mkdir(parents=True)
    made = passages(count)
    for number in range(files):
        text = "\n\n".join(itertools.islice(made, -(-count // files)))
        (folder / f"{number:05}.md").write_text(f"# Part {number}\n\n{text}\n", encoding="utf-8")
        meta = {"year": 1990 + number % 36, "tag": number % 100, "source": number % 5}
        (folder / f"{number:05}.md.metadata.json").write_text(json.dumps(meta), encoding="utf-8")


def write_mixed(folder: Path) -> None:
    """Fifty files: 20 md, 10 txt, 8 html, 8 pdf, 4 docx."""
    import io
    import zipfile

    folder.mkdir(parents=True)
    made = passages(5000, seed=2)
    for number in range(50):
        text = list(itertools.islice(made, 24))
        if number < 30:
            kind = "md" if number < 20 else "txt"
            (folder / f"{number}.{kind}").write_text("\n\n".join(text), encoding="utf-8")
        elif number < 38:
            body = "".join(f"<p>{p}</p>" for p in text).replace("&", "&amp;")
            (folder / f"{number}.html").write_text(f"<html><body><nav>x</nav>{body}</body></html>", encoding="utf-8")
        elif number < 46:
            (folder / f"{number}.pdf").write_bytes(pdf(text))
        else:
            space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
            body = "".join(f"<w:p><w:r><w:t>{xml(p)}</w:t></w:r></w:p>" for p in text)
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                archive.writestr(
                    "word/document.xml", f'<w:document xmlns:w="{space}"><w:body>{body}</w:body></w:document>'
                )
            (folder / f"{number}.docx").write_bytes(packed.getvalue())


def xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def pdf(texts: Sequence[str]) -> bytes:
    """A PDF with a page for each four passages, lines of twelve words."""
    pages = [list(texts[i : i + 4]) for i in range(0, len(texts), 4)]
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, page in enumerate(pages):
        words = " ".join(page).split()
        lines = [" ".join(words[i : i + 12]) for i in range(0, len(words), 12)]
        shown = " ".join(f"({escape(line)}) Tj T*" for line in lines)
        stream = f"BT /F1 10 Tf 12 TL 40 780 Td {shown} ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * number} 0 R"
            " /Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(stream.encode('latin-1', 'replace'))} >>\nstream\n{stream}\nendstream")
    data = b"%PDF-1.4\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body.encode("latin-1", "replace"))
    table = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % place for place in places)
    return data + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)


def escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


@dataclass(frozen=True)
class Times:
    """Milliseconds: of the clock, and of this thread's processor time, which a busy machine leaves alone."""

    p50: float
    p99: float
    processor: float


def timed(ask: Callable[[str], Any], asked: Sequence[str]) -> Times:
    """Percentiles over the questions; the first twenty warm up."""
    for question in asked[:20]:
        ask(question)
    clock, processor = [], []
    for question in asked:
        started, spent = time.perf_counter(), time.thread_time()
        ask(question)
        clock.append(1000 * (time.perf_counter() - started))
        processor.append(1000 * (time.thread_time() - spent))
    clock.sort()
    last = len(clock) - 1
    return Times(clock[last // 2], clock[int(last * 0.99)], sorted(processor)[last // 2])


def body(question: str, **knobs: Any) -> bytes:
    asked: dict[str, Any] = {"question": question, "numResults": 10, "rerank": False}
    return json.dumps(asked | {"advanced-query": {"mode": "hybrid"}} | knobs).encode()


def resident_mib() -> float:
    """Resident memory of this process: anonymous and file-backed pages together."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def child_index(folder: Path, cache: Path) -> dict[str, float]:
    """Index texts already read, through the same collection that a folder uses."""
    from rage_retrievers.local.collection import Collection
    from rage_retrievers.local.embedding import WordVectors
    from rage_retrievers.local.folder import Folder
    from rage_retrievers.local.sources import Entry

    loaded = [(entry, entry.load()) for entry in Folder(folder).scan().entries]
    entries = [Entry(entry.key, entry.stamp, lambda read=read: read) for entry, read in loaded]  # type: ignore[misc]
    collection = Collection(cache / "rate", WordVectors())
    before = time.process_time()
    done = collection.sync(entries)
    spent = time.process_time() - before
    collection.close()
    return {"passages": done.passages, "seconds": done.seconds, "spent": spent}


def child_query(folder: Path, cache: Path) -> dict[str, float]:
    from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalService

    path = f"/v1/org/{LOCAL_ORGANIZATION}/pipelines/{LOCAL_PIPELINE}/retrieval"
    found: dict[str, float] = {}
    variants: dict[str, dict[str, Any]] = {
        "hybrid": {},
        "hybrid + rerank": {"rerank": True},
        "hybrid, filter 1 %": {"metadata-filters": [{"tag": [7]}]},
        "hybrid, filter 20 %": {"metadata-filters": [{"metadata.source": [3]}]},
        "text": {"advanced-query": {"mode": "text"}},
        "vector": {"advanced-query": {"mode": "vector"}},
    }
    with LocalService.open(folder, cache_dir=cache) as service:
        found["chunks"] = service.stats.chunks
        for name, knobs in variants.items():

            def ask(question: str, knobs: dict[str, Any] = knobs) -> None:
                answer = service.handle("POST", path, {"Authorization": "Bearer b"}, body(question, **knobs))
                assert answer.status == 200

            times = timed(ask, questions())
            found |= {f"{name} p50": times.p50, f"{name} p99": times.p99, f"{name} processor": times.processor}
    found["rss"] = resident_mib()
    return found


def told_by(lines: Iterable[str]) -> str:
    """What `rage serve --json` says first: an object over several lines."""
    said = []
    for line in lines:
        said.append(line)
        if line == "}\n":
            return "".join(said)
    raise RuntimeError(f"rage serve has ended: {''.join(said)}")


def child_http(folder: Path, cache: Path) -> dict[str, float]:
    """Ask `rage serve`, which is a process of its own."""
    import http.client

    command = [sys.executable, "-m", "rage_retrievers.cli", "serve", str(folder), "--port", "0", "--json"]
    serving = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"RAGE_CACHE_DIR": str(cache)}
    )
    try:
        assert serving.stdout is not None
        told = json.loads(told_by(serving.stdout))
        address = urlsplit(told["base_url"])
        path = f"{address.path}/org/{told['organization']}/pipelines/{told['pipeline_id']}/retrieval"
        connection = http.client.HTTPConnection(address.hostname or "", address.port)

        def ask(question: str) -> None:
            connection.request("POST", path, body(question), {"Authorization": "Bearer b"})
            assert len(connection.getresponse().read()) > 100

        times = timed(ask, questions())
        connection.close()
    finally:
        serving.terminate()
        serving.wait(timeout=30)
    return {"chunks": told["chunks"], "p50": times.p50, "p99": times.p99}


CHILDREN = {"index": child_index, "query": child_query, "http": child_http}


def child(*command: str) -> dict[str, float]:
    """What a program in a new process prints; it finds its modules compiled, as one that was installed does."""
    variables = os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, check=True, env=variables)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def beside(name: str) -> str:
    return str(Path(__file__).with_name(name))


def measurement(name: str, folder: Path, cache: Path) -> dict[str, float]:
    return child(__file__, "--child", name, str(folder), str(cache))


def start(folder: Path, cache: Path) -> dict[str, float]:
    """Of a program that asks one question: `seconds` from its beginning to its answer, `wall` to its end."""
    started = time.time()
    found = child(beside("_first_answer.py"), str(folder), str(cache))
    return {**found, "seconds": found["answered"] - started, "wall": time.time() - started}


def median(found: Sequence[dict[str, float]], key: str) -> float:
    return statistics.median(one[key] for one in found)


def measure(home: Path, count: int, files: int, small: int) -> Iterator[Bar]:
    """Each figure as soon as it is known; over HTTP `small` passages are asked for, two to a chunk."""
    write_mixed(home / "mixed")
    cold = [start(home / "mixed", home / f"mixed-cache-{run}") for run in range(5)]
    yield Bar("first answer over 50 mixed files, cold, process included", median(cold, "seconds"), 1.5, "s")
    tell("the program's end included", median(cold, "wall"), "s")
    tell("processor time of it, readers of foreign formats aside", median(cold, "processor"), "s")

    machine = child(beside("_machine.py"))
    tell("here the standard library's server takes (there: 0.17)", machine["http"], "ms")
    write_large(home / "small", small, small // 12)
    http = measurement("http", home / "small", home / "small-cache")
    yield Bar(f"HTTP keep-alive, hybrid, {http['chunks']:,.0f} chunks, p50", http["p50"], 3, "ms")

    write_large(home / "large", count, files)
    rate = measurement("index", home / "large", home / "rate-cache")
    name = f"indexing {rate['passages']:,.0f} chunks already read"
    yield Bar(name, rate["passages"] / rate["seconds"], 2000, "chunks/s", at_least=True)
    tell("chunks per second of processor time", rate["passages"] / rate["spent"], "chunks/s")

    first = start(home / "large", home / "large-cache")
    tell(f"first answer over {files:,} files", first["seconds"], "s")
    second = [start(home / "large", home / "large-cache") for _ in range(3)]
    yield Bar(f"second start over {files:,} files, to its answer", median(second, "seconds"), 2, "s")
    tell("the program's end included", median(second, "wall"), "s")
    tell("processor time of it, all threads", median(second, "processor"), "s")

    machine = child(beside("_machine.py"))
    tell("here 100,000 vectors times a vector take (there: 4)", machine["numpy"], "ms")
    found = measurement("query", home / "large", home / "large-cache")
    yield Bar(f"hybrid, {found['chunks']:,.0f} chunks, in process, p50", found["hybrid p50"], 6, "ms")
    yield Bar(f"hybrid, {found['chunks']:,.0f} chunks, in process, p99", found["hybrid p99"], 15, "ms")
    for key, value in found.items():
        if key.endswith(("p50", "p99", " processor")):
            tell(key, value, "ms")
    yield Bar("memory after 2,520 questions", found["rss"], 400, "MB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=185_000, help="of about 125 words; nearly two make a chunk")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--smoke", action="store_true", help="run everything on a few files")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        name, folder, cache = given.child
        json.dump(CHILDREN[name](Path(folder), Path(cache)) | {"processor": time.process_time()}, sys.stdout)
        return 0
    if hasattr(os, "getloadavg"):
        print(
            f"{os.cpu_count()} processors, {os.getloadavg()[0]:.1f} processes wanted one in the last minute", flush=True
        )
    sizes = (400, 40, 120) if given.smoke else (given.passages, given.files, 12_000)
    held = True
    with tempfile.TemporaryDirectory() as scratch:
        for bar in measure(Path(scratch), *sizes):
            print(bar, flush=True)
            held &= bar.held
    return 0 if held or given.smoke else 1


if __name__ == "__main__":
    sys.exit(main())
