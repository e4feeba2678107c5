"""Vectorize.io as a LangChain and a LlamaIndex retriever: one core, two thin faces."""

__version__ = "0.1.0"
