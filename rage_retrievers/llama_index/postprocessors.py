"""The policies of `rage_retrievers.context` as a node postprocessor."""

from __future__ import annotations

from typing import Any

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle
from pydantic import Field

from ..context import Policy, select
from ..context.policies import checked

__all__ = ["ContextPostprocessor"]


class ContextPostprocessor(BaseNodePostprocessor):
    """Applies policies to the nodes, first one first: `ContextPostprocessor(Deduplicate(), Budget(2000))`.

    The nodes that get through are the same objects, scores untouched. Takes nodes of any retriever; a node without a
    score is never compared by a number.
    """

    policies: tuple[Any, ...] = Field(default=(), description="From rage_retrievers.context, or any such function.")

    def __init__(self, *policies: Policy, **more: Any) -> None:
        super().__init__(**({"policies": policies} if policies else {}), **more)
        checked(self.policies)

    @classmethod
    def class_name(cls) -> str:
        """The name it is serialized under."""
        return "ContextPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return select(nodes, *self.policies).originals

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return self._postprocess_nodes(nodes, query_bundle)
