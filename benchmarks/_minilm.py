"""MiniLM (six layers of BERT) in numpy: an embedding to inject into the embedded pipeline without installing torch.

`MiniLM(directory)` takes the directory of a sentence-transformers model: config.json, tokenizer.json and
model.safetensors. It has the methods of LangChain's `Embeddings`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

Array = NDArray[np.float32]


class MiniLM:
    """The mean of the last layer over a text's tokens, scaled to length 1."""

    model_name = "all-MiniLM-L6-v2"

    def __init__(self, home: Path) -> None:
        config = json.loads((home / "config.json").read_text("utf-8"))
        self._layers, self._heads = config["num_hidden_layers"], config["num_attention_heads"]
        self._weights: dict[str, Array] = load_file(str(home / "model.safetensors"))
        self._tokenizer = Tokenizer.from_file(str(home / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(256)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        states = self._embed(np.asarray(self._tokenizer.encode(text).ids))
        for layer in range(self._layers):
            states = self._layer(states, f"encoder.layer.{layer}.")
        pooled = states.mean(axis=0)
        scaled: list[float] = (pooled / np.linalg.norm(pooled)).tolist()
        return scaled

    def _embed(self, ids: NDArray[Any]) -> Array:
        table = "embeddings.{}_embeddings.weight"
        words = self._weights[table.format("word")][ids] + self._weights[table.format("token_type")][0]
        return self._normalize(words + self._weights[table.format("position")][: len(ids)], "embeddings.LayerNorm.")

    def _layer(self, states: Array, name: str) -> Array:
        attended = self._dense(self._attend(states, f"{name}attention.self."), f"{name}attention.output.dense.")
        states = self._normalize(states + attended, f"{name}attention.output.LayerNorm.")
        wide = gelu(self._dense(states, f"{name}intermediate.dense."))
        return self._normalize(states + self._dense(wide, f"{name}output.dense."), f"{name}output.LayerNorm.")

    def _attend(self, states: Array, name: str) -> Array:
        query, key, value = (self._split(self._dense(states, f"{name}{part}.")) for part in ("query", "key", "value"))
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        attended: Array = (shares @ value).transpose(1, 0, 2).reshape(states.shape)
        return attended

    def _split(self, states: Array) -> Array:
        return states.reshape(len(states), self._heads, -1).transpose(1, 0, 2)

    def _dense(self, states: Array, name: str) -> Array:
        made: Array = states @ self._weights[f"{name}weight"].T + self._weights[f"{name}bias"]
        return made

    def _normalize(self, states: Array, name: str) -> Array:
        centered = states - states.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-12)
        scaled: Array = centered / spread * self._weights[f"{name}weight"] + self._weights[f"{name}bias"]
        return scaled


def gelu(values: Array) -> Array:
    """x * Phi(x), by Abramowitz and Stegun 7.1.26 (error below 2e-7), for numpy has no erf."""
    x = np.abs(values) / np.float32(math.sqrt(2))
    t = 1 / (1 + 0.3275911 * x)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(values) * (1 - series * np.exp(-x * x))
    activated: Array = (0.5 * values * (1 + erf)).astype(np.float32)
    return activated
