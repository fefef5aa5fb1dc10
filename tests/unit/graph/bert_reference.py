"""BERT and ALBERT in float64 NumPy, written from the papers, to hold every executable against."""

from math import erf

import numpy as np

EPSILON = 1e-12


class ReferenceBert:
    """Computes texts one by one, without padding.

    Args:
        arrays: Weights by name, as the architecture saves them.
        config: The model's config as plain data.
    """

    def __init__(self, arrays, config):
        self.arrays = {name.removesuffix(":0").removeprefix("bert/"): np.float64(a) for name, a in arrays.items()}
        self.config = config

    def probabilities(self, ids):
        """Returns float64 [classes] for a list of ids."""
        states = self._embed(np.array(ids))
        for index, size in enumerate(self.config["encoder"]):
            for _ in range(self.config["repeats"]):
                states = self._layer(states, f"encoder_{index}", size["heads"])
        pooled = states[0] if self.config["pooling"] == "first" else states.mean(axis=0)
        logits = self._product(np.tanh(self._product(pooled, "pooler")), "classifier")
        return softmax(logits)

    def _embed(self, ids):
        tables = [self.arrays[f"embeddings/{name}"] for name in ("token", "position", "segment")]
        embedded = self._norm(tables[0][ids] + tables[1][: len(ids)] + tables[2][0], "embeddings/norm")
        factorised = self.config["embedding_width"] is not None
        return self._product(embedded, "embeddings/projection") if factorised else embedded

    def _layer(self, states, name, heads):
        states = self._norm(
            states + self._attention(states, f"{name}/self_attention", heads), f"{name}/self_attention_norm"
        )
        hidden = self._activate(self._product(states, f"{name}/feed_forward/expand"))
        return self._norm(states + self._product(hidden, f"{name}/feed_forward/contract"), f"{name}/feed_forward_norm")

    def _attention(self, states, name, heads):
        size = self.config["head_size"]
        queries, keys, values = (
            self._product(states, f"{name}/{kind}").reshape(len(states), heads, size).transpose(1, 0, 2)
            for kind in ("query", "key", "value")
        )
        maps = softmax(queries @ keys.transpose(0, 2, 1) / np.sqrt(size))
        return self._product((maps @ values).transpose(1, 0, 2).reshape(len(states), heads * size), f"{name}/output")

    def _product(self, x, name):
        return x @ self.arrays[f"{name}/kernel"] + self.arrays[f"{name}/bias"]

    def _norm(self, x, name):
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
        return scaled * self.arrays[f"{name}/gamma"] + self.arrays[f"{name}/beta"]

    def _activate(self, x):
        if self.config["activation"] == "relu":
            return np.maximum(x, 0)
        if self.config["activation"] == "gelu":
            return x * (1 + np.vectorize(erf)(x / np.sqrt(2))) / 2
        return x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2


def softmax(scores):
    """Returns the softmax over the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
