"""The vendor's published Python packages against the embedded service, unmodified; skipped where they are missing."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest

from rage_retrievers.errors import ConfigurationError
from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalServer

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def server(folder: Path, open_service: Any) -> Iterator[LocalServer]:
    """A server over the folder on any free port."""
    with LocalServer(open_service(folder)) as running:
        yield running


@pytest.fixture
def vendor() -> Any:
    """The generated client."""
    return pytest.importorskip("vectorize_client")


def test_vectorize_client_retrieves(vendor: Any, server: LocalServer) -> None:
    """Retrieval with a filter, pipelines, and the typed error of a missing token."""
    with vendor.ApiClient(vendor.Configuration(host=server.url, access_token="t")) as api:
        pipelines = vendor.PipelinesApi(api)
        assert [one.id for one in pipelines.get_pipelines(LOCAL_ORGANIZATION).data] == [LOCAL_PIPELINE]
        assert pipelines.get_pipeline(LOCAL_ORGANIZATION, LOCAL_PIPELINE).data.document_count == 6
        body = {"question": "tax", "numResults": 3, "rerank": True, "metadata-filters": [{"year": [2023]}]}
        asked = vendor.RetrieveDocumentsRequest.from_dict(body)
        (document,) = pipelines.retrieve_documents(LOCAL_ORGANIZATION, LOCAL_PIPELINE, asked).documents
        assert document.text == "Income tax returns are due in April"
        assert document.additional_properties["metadata"]["official"] is True
    without = vendor.ApiClient(vendor.Configuration(host=server.url))
    with without as api, pytest.raises(vendor.exceptions.UnauthorizedException):
        vendor.PipelinesApi(api).get_pipelines(LOCAL_ORGANIZATION)


def test_vectorize_client_uploads_and_creates_a_pipeline(vendor: Any, server: LocalServer) -> None:
    """From an upload connector to an answer, all through the generated classes."""
    with vendor.ApiClient(vendor.Configuration(host=server.url, access_token="t")) as api:
        upload = vendor.FileUpload(name="mine", type="FILE_UPLOAD")
        made = vendor.SourceConnectorsApi(api).create_source_connector(
            LOCAL_ORGANIZATION, vendor.CreateSourceConnectorRequest(upload)
        )
        source = made.connector.id
        asked = vendor.StartFileUploadToConnectorRequest(
            name="w.txt", contentType="text/plain", metadata=json.dumps({"year": 1})
        )
        start = vendor.UploadsApi(api).start_file_upload_to_connector(LOCAL_ORGANIZATION, source, asked)
        assert httpx.put(start.upload_url, content=b"Blue whales eat krill").status_code == 200
        destinations = vendor.DestinationConnectorsApi(api).get_destination_connectors(LOCAL_ORGANIZATION)
        platforms = vendor.AIPlatformConnectorsApi(api).get_ai_platform_connectors(LOCAL_ORGANIZATION)
        configuration = {
            "pipelineName": "mine",
            "sourceConnectors": [{"id": source, "type": "FILE_UPLOAD", "config": {}}],
            "destinationConnector": {"id": destinations.destination_connectors[0].id, "type": "VECTORIZE"},
            "aiPlatformConnector": {"id": platforms.ai_platform_connectors[0].id, "type": "VECTORIZE", "config": {}},
            "schedule": {"type": "manual"},
        }
        pipelines = vendor.PipelinesApi(api)
        schema = vendor.PipelineConfigurationSchema.from_dict(configuration)
        pipeline = pipelines.create_pipeline(LOCAL_ORGANIZATION, schema).data.id
        question = vendor.RetrieveDocumentsRequest(question="whales", numResults=1)
        for _ in range(10_000):
            with contextlib.suppress(vendor.exceptions.ServiceException):
                answer = pipelines.retrieve_documents(LOCAL_ORGANIZATION, pipeline, question)
                break
        assert answer.documents[0].text == "Blue whales eat krill"


@pytest.mark.parametrize(
    ("module", "method", "text"),
    [
        ("langchain_vectorize.retrievers", "invoke", "page_content"),
        ("llama_index.retrievers.vectorize", "retrieve", "text"),
    ],
)
def test_the_vendors_retrievers_work_on_their_local_port(
    folder: Path, open_service: Any, module: str, method: str, text: str
) -> None:
    """`environment="local"` means http://localhost:3000/api and the header x-lambda-api-key."""
    pytest.importorskip(module)
    try:
        server = LocalServer(open_service(folder), port=3000)
    except ConfigurationError:
        pytest.skip("port 3000 is taken")
    # The vendor's retrievers print every request.
    with server, contextlib.redirect_stdout(io.StringIO()):
        retriever = import_module(module).VectorizeRetriever(
            api_token="t",
            environment="local",
            organization=LOCAL_ORGANIZATION,
            pipeline_id=LOCAL_PIPELINE,
            num_results=1,
        )
        (found,) = getattr(retriever, method)("when are income tax returns due")
    assert getattr(found, text) == "Income tax returns are due in April"
