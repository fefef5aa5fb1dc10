"""Trained Transformers on disk, and beam search in float64 NumPy to hold them against."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAD, BEGIN, END = 0, 1, 2


class Reference:
    """A Transformer and its beam search, written for reading: float64, no cache, one sentence at a time."""

    def __init__(self, weights: Mapping[str, np.ndarray], config: Mapping[str, Any], serving: Mapping[str, Any]):
        self.weights = {name: value.astype(np.float64) for name, value in weights.items()}
        self.config, self.serving = config, serving

    def dense(self, x, name):
        return x @ self.weights[f"transformer/{name}/kernel:0"] + self.weights[f"transformer/{name}/bias:0"]

    def norm(self, x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return scaled * self.weights[f"transformer/{name}/gamma:0"] + self.weights[f"transformer/{name}/beta:0"]

    def attention(self, x, memory, name, mask):
        size = self.config["head_size"]
        q, k, v = self.dense(x, f"{name}/query"), self.dense(memory, f"{name}/key"), self.dense(memory, f"{name}/value")
        heads = []
        for start in range(0, q.shape[1], size):
            head = slice(start, start + size)
            scores = q[:, head] @ k[:, head].T / np.sqrt(size)
            scores = np.where(mask, scores, -np.inf)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            heads.append(scores / scores.sum(-1, keepdims=True) @ v[:, head])
        return self.dense(np.concatenate(heads, axis=1), f"{name}/output")

    def feed_forward(self, x, name):
        return self.dense(np.maximum(self.dense(x, f"{name}/expand"), 0), f"{name}/contract")

    def embed(self, ids):
        width = self.config["width"]
        half = width // 2
        frequencies = 10_000.0 ** (-np.arange(half) / max(half - 1, 1))
        angles = np.arange(len(ids))[:, None] * frequencies
        table = self.weights["transformer/embedding/embeddings:0"]
        return table[ids] * np.sqrt(width) + np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    def encode(self, ids):
        x = self.embed(ids)
        for index in range(len(self.config["encoder"])):
            name = f"encoder_{index}"
            normed = self.norm(x, f"{name}/self_attention_norm")
            x = x + self.attention(normed, normed, f"{name}/self_attention", True)
            x = x + self.feed_forward(self.norm(x, f"{name}/feed_forward_norm"), f"{name}/feed_forward")
        return self.norm(x, "encoder_norm")

    def logits(self, ids, memory):
        x = self.embed(ids)
        causal = np.tril(np.ones([len(ids), len(ids)], bool))
        for index in range(len(self.config["decoder"])):
            name = f"decoder_{index}"
            normed = self.norm(x, f"{name}/self_attention_norm")
            x = x + self.attention(normed, normed, f"{name}/self_attention", causal)
            normed = self.norm(x, f"{name}/cross_attention_norm")
            x = x + self.attention(normed, memory, f"{name}/cross_attention", True)
            x = x + self.feed_forward(self.norm(x, f"{name}/feed_forward_norm"), f"{name}/feed_forward")
        rows = self.weights["transformer/embedding/embeddings:0"][: self.config["output_vocabulary"]]
        return self.norm(x, "decoder_norm") @ rows.T

    def log_probabilities(self, prefix, memory):
        logits = self.logits(np.array(prefix), memory)[-1]
        logits[[PAD, BEGIN]] = -np.inf
        shifted = logits - logits.max()
        return shifted - np.log(np.exp(shifted).sum())

    def score(self, source, ids):
        """Returns the normalised score of an output."""
        memory = self.encode(np.array(source))
        steps = [self.log_probabilities([BEGIN, *ids[:index]], memory)[token] for index, token in enumerate(ids)]
        return self.normalise(sum(steps), len(ids))

    def greedy(self, source):
        """Returns the ids of taking the likeliest one each time."""
        memory, ids = self.encode(np.array(source)), []
        while END not in ids:
            steps = self.log_probabilities([BEGIN, *ids], memory)
            ids.append(END if len(ids) + 1 == self.limit(source) else int(steps.argmax()))
        return ids

    def limit(self, source):
        wanted = np.floor(self.serving["max_length_factor"] * len(source) + self.serving["max_length_offset"])
        return int(min(max(wanted, 1), self.serving["max_length"]))

    def normalise(self, score, length):
        return score / ((5 + length) / 6) ** self.serving["length_penalty"]

    def translate(self, source):
        """Returns ids, normalised score, and the smallest gap between scores that decided anything."""
        beam, limit, memory = self.serving["beam"], self.limit(source), self.encode(np.array(source))
        running, finished, gaps = [((BEGIN,), 0.0)], [], [np.inf]
        for length in range(1, limit + 1):
            candidates = []
            for prefix, score in running:
                steps = self.log_probabilities(prefix, memory)
                tokens = [END] if length == limit else range(len(steps))
                candidates += [
                    ((*prefix, token), score + steps[token]) for token in tokens if np.isfinite(steps[token])
                ]
            candidates.sort(key=lambda candidate: -candidate[1])
            scores = np.array([score for _, score in candidates[: 2 * beam + 1]])
            gaps.append(np.min(-np.diff(scores), initial=np.inf))
            candidates = candidates[: 2 * beam]
            finished += [(ids, self.normalise(s, length)) for ids, s in candidates[:beam] if ids[-1] == END]
            running = [candidate for candidate in candidates if candidate[0][-1] != END][:beam]
            best = max((score for _, score in finished), default=-np.inf)
            if not running or len(finished) >= beam or self.normalise(running[0][1], limit) <= best:
                break
        finished.sort(key=lambda hypothesis: -hypothesis[1])
        if len(finished) > 1:
            gaps.append(finished[0][1] - finished[1][1])
        return list(finished[0][0][1:]), finished[0][1], min(gaps)


SERVING = {"beam": 4, "length_penalty": 0.6, "max_length_factor": 1.5, "max_length_offset": 4, "max_length": 24}
CONFIG = {
    "vocabulary": 40,
    "width": 16,
    "head_size": 4,
    "encoder": [{"heads": 3, "feed_forward": 24}, {"heads": 4, "feed_forward": 32}],
    "decoder": [
        {"self_heads": 2, "cross_heads": 3, "feed_forward": 16},
        {"self_heads": 4, "cross_heads": 1, "feed_forward": 32},
    ],
    "max_positions": 32,
    "dropout": 0.1,
    "output_vocabulary": None,
}


def save_trained(folder: Path, seed: int, end_bias: float, outputs: int | None, **serving: Any) -> Reference:
    """Saves a random model that is lively: all weights random, sharp logits, and some liking for the end id."""
    from optops.models.base import load_architecture

    architecture = load_architecture("transformer")
    config = {**CONFIG, "output_vocabulary": outputs}
    model = architecture.build(config)
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        kind = weight.name.rsplit("/", 1)[1]
        centre = 1.0 if kind == "gamma:0" else 0.0
        spread = 0.35 if kind in {"kernel:0", "embeddings:0"} else 0.2
        value = generator.normal(centre, spread, weight.shape)
        weight.assign(value * 1.5 if kind == "embeddings:0" else value)
    # The first feature of the last norm is made a constant of 1, and only the end id listens to it.
    table, scale, offset = (weight.numpy() for weight in (model.embedding.embeddings, *model.decoder_norm.weights))
    table[:, 0], scale[0], offset[0] = 0, 0, 1
    table[END, 0] = end_bias
    model.embedding.embeddings.assign(table)
    model.decoder_norm.set_weights([scale, offset])
    architecture.save(model, folder, {**SERVING, **serving})
    with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
        return Reference(dict(arrays), config, {**SERVING, **serving})


@pytest.fixture
def sentences() -> Callable[[int, list[int]], list[list[int]]]:
    """Makes random sentences of the given lengths, the end id included."""

    def make(seed: int, lengths: list[int]) -> list[list[int]]:
        generator = np.random.default_rng(seed)
        return [[*generator.integers(3, CONFIG["vocabulary"], size=length - 1).tolist(), END] for length in lengths]

    return make


@pytest.fixture
def pad() -> Callable[..., np.ndarray]:
    """Makes int32 [batch, length] of sentences, padded with 0 to `width` or to the longest."""

    def pad_rows(rows: list[list[int]], width: int = 0) -> np.ndarray:
        ids = np.zeros([len(rows), max(width, *map(len, rows), 1)], np.int32)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
        return ids

    return pad_rows


@pytest.fixture
def unpad() -> Callable[[np.ndarray], list[list[int]]]:
    """Makes lists of the ids in each row, without padding."""
    return lambda ids: [row[row != PAD].tolist() for row in ids]


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Callable[..., tuple[Path, Reference]]:
    """Saves a random model once for each set of arguments and gives its folder and its reference."""
    made: dict[Any, tuple[Path, Reference]] = {}

    def make(
        seed: int = 0, end_bias: float = 3.0, outputs: int | None = None, **serving: Any
    ) -> tuple[Path, Reference]:
        key = (seed, end_bias, outputs, *sorted(serving.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("trainable")
            made[key] = folder, save_trained(folder, seed, end_bias, outputs, **serving)
        return made[key]

    return make


@pytest.fixture(scope="session")
def lowered(trained, tmp_path_factory) -> Callable[..., tuple[Path, Reference]]:
    """Lowers a model once for each (runtime, precision, model) and gives the folder and the model's reference."""
    from optops.compression.quantization import make_plan
    from optops.graph.lowering import lower

    made: dict[Any, tuple[Path, Reference]] = {}

    def make(runtime: str, precision: str = "fp32", **model: Any) -> tuple[Path, Reference]:
        key = (runtime, precision, *sorted(model.items()))
        if key not in made:
            folder, reference = trained(**model)
            serving = tmp_path_factory.mktemp("serving")
            lower(folder, make_plan(folder, precision), runtime, serving)
            made[key] = serving, reference
        return made[key]

    return make


@pytest.fixture(scope="session")
def executable(lowered) -> Callable[..., tuple[Any, Reference]]:
    """Loads what `lowered` makes, once."""
    from optops.runtimes import load_executable

    made: dict[Path, Any] = {}

    def load(*args: Any, **model: Any) -> tuple[Any, Reference]:
        folder, reference = lowered(*args, **model)
        if folder not in made:
            made[folder] = load_executable(folder, threads=1)
        return made[folder], reference

    return load
