"""Whole translators of one set of weights in everybody's form: CTranslate2's, and those of optops' other runtimes."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from comparison import Record, compare

from optops.compression.quantization import make_plan
from optops.graph.lowering import lower
from optops.kernels import PackedTranslator
from optops.kernels.arrays import Precision
from optops.measurement.worker_process import Contender
from optops.models.base import load_architecture
from optops.models.transformer.weights import AttentionWeights, Norm, Product, TransformerWeights, read_weights

# Without these CTranslate2 takes several times as long: its threads would sleep between two products.
TUNED = {"OMP_WAIT_POLICY": "active", "OMP_PROC_BIND": "true", "GOMP_SPINCOUNT": "100000"}
LENGTH = 64
END = 2
SETTINGS = "search.json"


@dataclass(frozen=True)
class Size:
    """A Transformer's sizes."""

    name: str
    width: int
    heads: int
    feed_forward: int
    layers: int
    vocabulary: int


SIZES = {
    size.name: size
    for size in (
        Size("base", 512, 8, 2048, 6, 32_000),
        Size("small", 256, 4, 1024, 3, 8_000),
        Size("tiny", 128, 4, 256, 4, 8_000),
    )
}


def load_ours(folder: Path, threads: int) -> Any:
    """Returns our translator on arrays."""
    settings = json.loads((folder / SETTINGS).read_text())
    translator = PackedTranslator.from_bytes(np.load(folder / "weights.npy"))

    def call(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        ids = inputs["ids"]
        count = len(ids)
        found = translator.translate(
            ids,
            [ids.shape[1]] * count,
            [LENGTH] * count,
            beam=settings["beam"],
            length_penalty=0.0,
            minimum_length=settings["minimum_length"],
            threads=threads,
        )
        return {"ids": found.ids[:, 0], "scores": found.scores[:, 0]}

    return call


def load_ctranslate2(folder: Path, threads: int) -> Any:
    """Returns CTranslate2's translator."""
    # Its own process alone reads these: a process that is bound hands its binding on to those that it starts.
    os.environ.update(TUNED)
    import ctranslate2

    settings = json.loads((folder / SETTINGS).read_text())
    model = ctranslate2.Translator(
        str(folder), compute_type=settings["compute_type"], intra_threads=threads, inter_threads=1
    )

    def call(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = model.translate_batch(
            [[str(i) for i in row] for row in inputs["ids"].tolist()],
            beam_size=settings["beam"],
            # At 0 it goes on after as many translations as the beam is wide; at any other it stops as ours does.
            length_penalty=1e-6,
            # It counts ids without the end.
            min_decoding_length=max(settings["minimum_length"] - 1, 1),
            max_decoding_length=LENGTH,
            return_scores=True,
            max_batch_size=0,
        )
        ids = np.zeros((len(found), max(len(one.hypotheses[0]) for one in found)), np.int32)
        for row, one in zip(ids, found, strict=True):
            row[: len(one.hypotheses[0])] = [int(token) for token in one.hypotheses[0]]
        return {"ids": ids, "scores": np.array([one.scores[0] for one in found], np.float32)}

    return call


def write_ctranslate2(weights: TransformerWeights, folder: Path) -> None:
    """Writes weights in CTranslate2's form."""
    from ctranslate2.specs import TransformerSpec

    spec = TransformerSpec.from_config(
        (len(weights.encoder), len(weights.decoder)), weights.encoder[0].attention.heads, pre_norm=True
    )

    def norm(to: Any, of: Norm) -> None:
        to.gamma, to.beta = of.scale, of.offset

    def linear(to: Any, *parts: Product) -> None:
        to.weight = np.ascontiguousarray(np.concatenate([part.kernel for part in parts], axis=1).T)
        to.bias = np.concatenate([part.bias for part in parts])

    def attention(to: Any, of: AttentionWeights, of_norm: Norm, *, own: bool) -> None:
        norm(to.layer_norm, of_norm)
        joined = [[of.query, of.key, of.value]] if own else [[of.query], [of.key, of.value]]
        for place, parts in zip(to.linear, [*joined, [of.output]], strict=True):
            linear(place, *parts)

    for side in (spec.encoder, spec.decoder):
        embeddings = side.embeddings[0] if isinstance(side.embeddings, list) else side.embeddings
        embeddings.weight = weights.embedding
        side.position_encodings.encodings = weights.positions
        side.scale_embeddings = False
    for to, layer in zip(spec.encoder.layer, weights.encoder, strict=True):
        attention(to.self_attention, layer.attention, layer.attention_norm, own=True)
        norm(to.ffn.layer_norm, layer.feed_forward_norm)
        linear(to.ffn.linear_0, layer.feed_forward.expand)
        linear(to.ffn.linear_1, layer.feed_forward.contract)
    for to, layer in zip(spec.decoder.layer, weights.decoder, strict=True):
        attention(to.self_attention, layer.attention, layer.attention_norm, own=True)
        attention(to.attention, layer.cross, layer.cross_norm, own=False)
        norm(to.ffn.layer_norm, layer.feed_forward_norm)
        linear(to.ffn.linear_0, layer.feed_forward.expand)
        linear(to.ffn.linear_1, layer.feed_forward.contract)
    norm(spec.encoder.layer_norm, weights.encoder_norm)
    norm(spec.decoder.layer_norm, weights.decoder_norm)
    linear(spec.decoder.projection, weights.projection)
    tokens = ["0", "1", "2", *map(str, range(3, len(weights.embedding)))]
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = "3", "1", "2"
    spec.config.decoder_start_token = "1"  # noqa: S105  an id
    spec.config.add_source_eos = spec.config.add_source_bos = False
    spec.config.layer_norm_epsilon = 1e-6
    spec.validate()
    spec.save(str(folder))


class Bench:
    """One set of weights in everybody's form, and the comparisons of it.

    Args:
        folder: For all files.
        size: Of the model.
        seconds: For each comparison.
        end_bias: On the logit of the end id; None: no translation is shorter than `LENGTH`.
    """

    def __init__(self, folder: Path, size: Size, seconds: float, end_bias: float | None = None) -> None:
        from optops.models.keras import keras

        self.folder, self.size, self.seconds = folder, size, seconds
        self.minimum_length = LENGTH if end_bias is None else 2
        architecture = load_architecture("transformer")
        keras.utils.set_random_seed(1)
        model = architecture.build(
            {
                "vocabulary": size.vocabulary,
                "width": size.width,
                "heads": size.heads,
                "feed_forward": size.feed_forward,
                "encoder_layers": size.layers,
                "decoder_layers": size.layers,
                "dropout": 0.0,
            }
        )
        for weight in model.weights:
            if weight.name.endswith(("bias:0", "beta:0")):
                weight.assign(np.random.default_rng(len(weight.name)).normal(0, 0.02, weight.shape))
        self.architecture, self.model = architecture, model
        self.weights = read_weights(model, scaled_queries=False)
        self.weights.projection.bias[END] += end_bias or 0

    def ours(self, precision: Precision, beam: int) -> Path:
        """Returns the folder of our translator."""
        folder = self._folder(f"ours-{precision}-{beam}", {"beam": beam})
        np.save(folder / "weights.npy", PackedTranslator.from_weights(self.weights, lambda _: precision).to_bytes())
        return folder

    def ctranslate2(self, compute_type: str, beam: int) -> Path:
        """Returns the folder of CTranslate2's translator."""
        folder = self._folder(f"ctranslate2-{compute_type}-{beam}", {"beam": beam, "compute_type": compute_type})
        write_ctranslate2(self.weights, folder)
        return folder

    def lowered(self, runtime: str, precision: str, beam: int) -> Path:
        """Returns the folder of an executable for a runtime of optops."""
        trainable = self.folder / f"trainable-{beam}"
        serving = {"beam": beam, "length_penalty": 0.0, "max_length": LENGTH, "max_length_factor": 1.0}
        trainable.mkdir(exist_ok=True)
        self.architecture.save(self.model, trainable, serving)
        folder = self.folder / f"{runtime}-{precision}-{beam}"
        lower(trainable, make_plan(trainable, precision), runtime, folder)
        return folder

    def inputs(self, batch: int) -> list[Path]:
        """Returns files of one batch of token ids each."""
        random = np.random.default_rng(batch)
        paths = []
        for index in range(2):
            ids = random.integers(4, self.size.vocabulary, (batch, LENGTH)).astype(np.int32)
            ids[:, -1] = END
            path = self.folder / f"ids-{batch}-{index}.npz"
            np.savez(path, ids=ids)
            paths.append(path)
        return paths

    def compare(self, ours: Contender, peer: Contender, batch: int, beam: int) -> Record:
        """Times a peer and ours on a batch."""
        work = f"Transformer-{self.size.name}, {ours.name.split()[-1]}, batch {batch}, beam {beam}"
        return compare(work, ours, peer, self.inputs(batch), self.seconds, seed=batch)

    def _folder(self, name: str, settings: dict[str, Any]) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / SETTINGS).write_text(json.dumps(settings | {"minimum_length": self.minimum_length}))
        return folder


def comparisons(bench: Bench, threads: int, peers: set[str]) -> Iterator[Record]:
    """Yields a record for each precision, batch, beam and peer."""
    types = {"int8": "int8", "fp32": "float32"}
    for precision, cells in {"int8": [(1, 4), (1, 1), (8, 4), (32, 4)], "fp32": [(1, 4), (1, 1)]}.items():
        for batch, beam in cells:
            ours = Contender(f"optops {precision}", bench.ours(precision, beam), threads, "translators:load_ours")
            if "ctranslate2" in peers:
                folder = bench.ctranslate2(types[precision], beam)
                peer = Contender(f"CTranslate2 {types[precision]}", folder, threads, "translators:load_ctranslate2")
                yield bench.compare(ours, peer, batch, beam)
            if batch == 1 and beam > 1:
                for runtime, its in (("tensorflow", "fp32"), ("onnxruntime", precision)):
                    if runtime in peers:
                        peer = Contender(f"{runtime} {its}", bench.lowered(runtime, its, beam), threads)
                        yield bench.compare(ours, peer, batch, beam)
