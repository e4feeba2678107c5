"""A folder of real documents in every format, and services over it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalService

TEXTS = {
    "guide.md": "---\ntags: [manual, green]\nyear: 2024\n---\n# Gardening guide\n\nTomatoes want sun and water.\n\n"
    "Prune the side shoots of tomatoes every week.",
    "notes/bees.txt": "Honey bees dance to tell each other where the flowers are. A hive holds one queen.",
    "notes/engines.txt": "A two stroke engine fires once in every revolution of the crankshaft.",
    "page.html": "<html><head><title>Volcanoes</title><meta name='author' content='Ada'></head><body><nav>Menu</nav>"
    "<p>Lava is <b>molten</b> rock that a volcano expels.</p><script>alert(1)</script></body></html>",
}


def make_pdf(text: str) -> bytes:
    """A one-page PDF that says `text`, written by hand."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    fonts = b"<< /Font << /F1 5 0 R >> >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources %s >>" % fonts,
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    data = b"%PDF-1.4\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(data)
    data += b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    return data + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % table


def make_docx(text: str) -> bytes:
    """A Word document that says `text`."""
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = f'<w:document xmlns:w="{space}"><w:body><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:body></w:document>'
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("word/document.xml", body)
    return packed.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six small documents, one of each type, one with a sidecar."""
    return write_folder(tmp_path / "docs")


def write_folder(home: Path) -> Path:
    """Write the six documents into a new folder."""
    for name, text in TEXTS.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (home / "tax.pdf").write_bytes(make_pdf("Income tax returns are due in April"))
    (home / "letter.docx").write_bytes(make_docx("The landlord raises the rent in autumn"))
    (home / "tax.pdf.metadata.json").write_text('{"year": 2023, "official": true, "office": {"city": "Graz"}}')
    return home


@dataclass
class Asker:
    """Asks a service as a client would, in process."""

    service: LocalService

    def post(self, body: Any, pipeline: str = LOCAL_PIPELINE, token: str = "token") -> tuple[int, Any]:
        path = f"/v1/org/{LOCAL_ORGANIZATION}/pipelines/{pipeline}/retrieval"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.service.handle("POST", path, headers, data)
        return answer.status, json.loads(answer.body)

    def __call__(self, question: str, num_results: int = 3, **knobs: Any) -> Any:
        advanced = {key.replace("_", "-"): value for key, value in knobs.pop("advanced", {}).items()}
        body = {"question": question, "numResults": num_results, "rerank": False}
        body |= {key.replace("_", "-"): value for key, value in knobs.items()}
        status, answer = self.post(body | ({"advanced-query": advanced} if advanced else {}))
        assert status == 200, answer
        return answer

    def sources(self, question: str, **knobs: Any) -> list[str]:
        return [document["source"] for document in self(question, **knobs)["documents"]]


@pytest.fixture
def open_service(tmp_path: Path) -> Iterator[Callable[..., LocalService]]:
    """Opens services whose cache lives in the test's own directory, and closes them."""
    opened: list[LocalService] = []

    def make(folder: Path | None, **options: Any) -> LocalService:
        service = LocalService.open(folder, cache_dir=tmp_path / "cache", **{"follow_seconds": 0.0, **options})
        opened.append(service)
        return service

    yield make
    for service in opened:
        service.close()


@pytest.fixture(scope="session")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    """Asks one service that every test of the session shares; for tests that change nothing."""
    home = tmp_path_factory.mktemp("steady")
    with LocalService.open(write_folder(home / "docs"), cache_dir=home / "cache") as service:
        yield Asker(service)


@pytest.fixture
def ask(folder: Path, open_service: Callable[..., LocalService]) -> Asker:
    """Asks a service over `folder`."""
    return Asker(open_service(folder))


FILES = 30


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Thirty files, each with a word of its own."""
    home = tmp_path / "many"
    home.mkdir()
    for number in range(FILES):
        (home / f"{number:02}.txt").write_text(f"common words and the single word number{number}")
    return home


def sources(service: LocalService) -> list[str]:
    """The source of every passage that holds the words all files share."""
    return sorted(Asker(service).sources("common words", num_results=999, advanced={"mode": "text"}))


def store_of(tmp_path: Path) -> Path:
    """Where the store of `many` is."""
    (found,) = (tmp_path / "cache").glob("many-*/index-*/store.sqlite")
    return found
