"""LangChain's own suite, against the embedded pipeline over real HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_tests.integration_tests import RetrieversIntegrationTests

from rage_retrievers.langchain import VectorizeRetriever
from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalServer


class TestStandard(RetrieversIntegrationTests):
    """Every promise LangChain asks of a retriever."""

    @pytest.fixture(autouse=True)
    def _served(self, server: LocalServer) -> None:
        self.server = server

    @property
    def retriever_constructor(self) -> type[VectorizeRetriever]:
        return VectorizeRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {
            "api_key": "any",
            "base_url": self.server.url,
            "organization": LOCAL_ORGANIZATION,
            "pipeline_id": LOCAL_PIPELINE,
        }

    @property
    def retriever_query_example(self) -> str:
        return "How do honey bees tell each other of flowers?"


class TestStandardByFieldName(TestStandard):
    """The same with the canonical name of `k`."""

    @property
    def num_results_arg_name(self) -> str:
        return "num_results"
