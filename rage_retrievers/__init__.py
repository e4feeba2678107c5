"""Vectorize.io as a LangChain and a LlamaIndex retriever, on one core with resilience and observability.

    from rage_retrievers import VectorizeClient

    with VectorizeClient(base_url="local:./docs") as client:
        for document in client.retrieve("How is a retry paused?").documents:
            print(document.similarity, document.source, document.text)

`rage_retrievers.langchain` and `rage_retrievers.llama_index` hold the retrievers. Importing this package loads no
framework and no HTTP library; its parts are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .client import AsyncVectorizeClient, ClientOptions, QueryOptions, ResearchOptions, VectorizeClient
    from .errors import (
        BadRequestError,
        BulkheadFullError,
        CircuitOpenError,
        ConfigurationError,
        ConnectionFailedError,
        DeadlineExceededError,
        ForbiddenError,
        InvalidResponseError,
        NotFoundError,
        QuotaExceededError,
        RageError,
        RateLimitedError,
        RateLimitExceededError,
        RejectedError,
        ResearchFailedError,
        ResponseTooLargeError,
        RetryBudgetExhaustedError,
        ServerError,
        StatusError,
        ThrottledError,
        UnauthorizedError,
        is_transient,
    )
    from .filters import F
    from .models import AdvancedQuery, Document, PipelineStatus, Query, Research, ResearchEvent, Retrieval, Target
    from .resilience import (
        AdaptiveThrottle,
        Bulkhead,
        Cache,
        CircuitBreaker,
        Deadline,
        Degrade,
        EmptyAnswer,
        Hedge,
        OtherRetriever,
        Pipeline,
        RateLimit,
        Retry,
        RetryBudget,
        StaleAnswer,
        default_pipeline,
    )
    from .scope import current_scope, scope
    from .settings import VectorizeSettings

__all__ = [
    "AdaptiveThrottle",
    "AdvancedQuery",
    "AsyncVectorizeClient",
    "BadRequestError",
    "Bulkhead",
    "BulkheadFullError",
    "Cache",
    "CircuitBreaker",
    "CircuitOpenError",
    "ClientOptions",
    "ConfigurationError",
    "ConnectionFailedError",
    "Deadline",
    "DeadlineExceededError",
    "Degrade",
    "Document",
    "EmptyAnswer",
    "F",
    "ForbiddenError",
    "Hedge",
    "InvalidResponseError",
    "NotFoundError",
    "OtherRetriever",
    "Pipeline",
    "PipelineStatus",
    "Query",
    "QueryOptions",
    "QuotaExceededError",
    "RageError",
    "RateLimit",
    "RateLimitExceededError",
    "RateLimitedError",
    "RejectedError",
    "Research",
    "ResearchEvent",
    "ResearchFailedError",
    "ResearchOptions",
    "ResponseTooLargeError",
    "Retrieval",
    "Retry",
    "RetryBudget",
    "RetryBudgetExhaustedError",
    "ServerError",
    "StaleAnswer",
    "StatusError",
    "Target",
    "ThrottledError",
    "UnauthorizedError",
    "VectorizeClient",
    "VectorizeSettings",
    "__version__",
    "current_scope",
    "default_pipeline",
    "is_transient",
    "scope",
]

# In the order in which they are cheap to load.
_HOMES = ("errors", "models", "filters", "scope", "resilience", "client", "settings")


def __getattr__(name: str) -> Any:
    if name in __all__:
        from importlib import import_module

        for home in _HOMES:
            value = getattr(import_module(f"{__name__}.{home}"), name, None)
            if value is not None:
                globals()[name] = value
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
