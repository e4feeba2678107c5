"""What happens to passages between retrieval and prompt: select, order, format, cite. Pure functions, no framework.

    chosen = select(documents, Threshold(relevancy=0.3), Deduplicate(), PerSource(2), Budget(2000), Order("both_ends"))
    prompt = render(chosen.passages, "standard")
    sources = cite(chosen.passages)

`documents` are this package's `Retrieval` or `Document`s, LangChain-like documents, LlamaIndex-like nodes, or the plain
dicts a checkpoint gives back; `chosen.originals` are the same objects that came in.

Every choice is monotone: among passages with the same kind of score, a better one is never dropped for a worse one.
A score that is absent stays absent: such a passage keeps its place in the list as its only rank, is kept by a
`Threshold` unless told otherwise, and is never compared by a number.
"""

from .citations import Citation, cite, cited
from .formats import Style, defuse, render
from .passages import Passage, passages
from .policies import (
    Budget,
    Deduplicate,
    Dropped,
    Order,
    PerSource,
    Policy,
    Selection,
    Threshold,
    estimate_tokens,
    ranked,
    select,
)

__all__ = [
    "Budget",
    "Citation",
    "Deduplicate",
    "Dropped",
    "Order",
    "Passage",
    "PerSource",
    "Policy",
    "Selection",
    "Style",
    "Threshold",
    "cite",
    "cited",
    "defuse",
    "estimate_tokens",
    "passages",
    "ranked",
    "render",
    "select",
]
