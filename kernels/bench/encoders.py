"""Encoders of BERT's sizes from one set of weights in everybody's form: OpenVINO, ONNX Runtime, TensorFlow, XLA.

The peers start from one TensorFlow graph of the plain operations, each through its own converter, as a user's model
would; OpenVINO's int8 is NNCF's quantisation after training for Transformers. States go in embedded, without padding.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from comparison import Record, compare

from optops.kernels import EncoderLayerWeights, PackedEncoder
from optops.kernels.arrays import Precision
from optops.measurement.worker_process import Contender

LENGTH = 64
HEAD_SIZE = 64
EPSILON = 1e-12
CALIBRATED = 8
SETTINGS = "settings.json"
Inputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Size:
    """An encoder's sizes."""

    name: str
    width: int
    feed_forward: int
    layers: int

    @property
    def heads(self) -> int:
        """Of each layer."""
        return self.width // HEAD_SIZE


SIZES = {size.name: size for size in (Size("bert-base", 768, 3072, 12), Size("bert-small", 512, 2048, 4))}


def make_layers(size: Size) -> list[EncoderLayerWeights]:
    """Returns random weights, spread as BERT's are before training (Devlin et al. 2019, appendix A.2)."""
    random = np.random.default_rng(1)

    def product(inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
        values = random.normal(0, 0.02, (inputs + 1, outputs)).astype(np.float32)
        return np.ascontiguousarray(values[:-1]), values[-1]

    def norm() -> tuple[np.ndarray, np.ndarray]:
        return np.ones(size.width, np.float32), random.normal(0, 0.02, size.width).astype(np.float32)

    return [
        EncoderLayerWeights(
            heads=size.heads,
            attention_norm=norm(),
            query_key_value=product(size.width, 3 * size.width),
            output=product(size.width, size.width),
            feed_forward_norm=norm(),
            expand=product(size.width, size.feed_forward),
            contract=product(size.feed_forward, size.width),
        )
        for _ in range(size.layers)
    ]


def encode(states: Any, layers: Sequence[EncoderLayerWeights]) -> Any:
    """Returns the encoder's output in TensorFlow's plain operations, float32 [sentences, time, width]."""
    from optops.models.keras import tf

    def norm(x: Any, weights: Any) -> Any:
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + EPSILON) * weights[0] + weights[1]

    def dense(x: Any, weights: Any) -> Any:
        return tf.matmul(x, weights[0]) + weights[1]

    def heads(x: Any, count: int) -> Any:
        shape = tf.shape(x)
        return tf.transpose(tf.reshape(x, [shape[0], shape[1], count, HEAD_SIZE]), [0, 2, 1, 3])

    for layer in layers:
        parts = tf.split(dense(states, layer.query_key_value), 3, axis=-1)
        query, key, value = (heads(part, layer.heads) for part in parts)
        weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) * HEAD_SIZE**-0.5)
        context = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
        context = tf.reshape(context, tf.shape(states))
        states = norm(states + dense(context, layer.output), layer.attention_norm)
        hidden = dense(states, layer.expand)
        # TensorFlow's own GELU is written with an erfc that ONNX Runtime does not know.
        hidden = 0.5 * hidden * (1.0 + tf.math.erf(hidden * 0.5**0.5))
        states = norm(states + dense(hidden, layer.contract), layer.feed_forward_norm)
    return states


def load_ours(folder: Path, threads: int) -> Any:
    """Returns our encoder on arrays."""
    encoder = PackedEncoder.from_bytes(np.load(folder / "weights.npy"))

    def call(inputs: Inputs) -> Inputs:
        states = inputs["states"]
        return {"states": encoder(states, [states.shape[1]] * len(states), threads=threads)}

    return call


def load_openvino(folder: Path, threads: int) -> Any:
    """Returns OpenVINO's model, compiled for shapes that it knows and for latency."""
    import openvino

    settings = json.loads((folder / SETTINGS).read_text())
    core = openvino.Core()
    compiled: dict[tuple[int, ...], Any] = {}

    def call(inputs: Inputs) -> Inputs:
        states = inputs["states"]
        if states.shape not in compiled:
            model = core.read_model(folder / "model.xml")
            model.reshape(list(states.shape))
            compiled[states.shape] = core.compile_model(
                model,
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_NUM_THREADS": threads,
                    "INFERENCE_PRECISION_HINT": settings["precision"],
                },
            )
        return {"states": compiled[states.shape](states)[0]}

    return call


def load_onnxruntime(folder: Path, threads: int) -> Any:
    """Returns ONNX Runtime's model, with its own fusions for BERT."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    return lambda inputs: {"states": session.run(None, inputs)[0]}


def load_tensorflow(folder: Path, threads: int) -> Any:
    """Returns TensorFlow's graph, through XLA if the settings say so."""
    from optops.models.keras import tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    settings = json.loads((folder / SETTINGS).read_text())
    model = tf.saved_model.load(str(folder / "model"))
    function = tf.function(model.serve, jit_compile=settings["xla"])
    return lambda inputs: {"states": function(tf.constant(inputs["states"])).numpy()}


class Bench:
    """One set of weights in everybody's form.

    Args:
        folder: For all files.
        size: Of the encoder.
        seconds: For each comparison.
    """

    def __init__(self, folder: Path, size: Size, seconds: float) -> None:
        self.folder, self.size, self.seconds = folder, size, seconds
        self.layers = make_layers(size)

    def ours(self, precision: Precision) -> Path:
        """Returns the folder of our encoder."""
        folder = self._folder(f"ours-{precision}")
        encoder = PackedEncoder(
            self.layers, head_size=HEAD_SIZE, activation="gelu", epsilon=EPSILON, precision=precision
        )
        np.save(folder / "weights.npy", encoder.to_bytes())
        return folder

    def peer(self, name: str, precision: Precision) -> Path:
        """Returns the folder of a peer's model."""
        if name in ("tensorflow", "xla"):
            return self.tensorflow(xla=name == "xla")
        return self.openvino(precision) if name == "openvino" else self.onnxruntime(precision)

    def tensorflow(self, *, xla: bool) -> Path:
        """Returns the folder of a SavedModel."""
        from optops.models.keras import tf

        folder = self._folder("xla" if xla else "tensorflow", xla=xla)
        if not (folder / "model").exists():
            model = tf.Module()
            model.serve = tf.function(
                lambda states: encode(states, self.layers),
                input_signature=[tf.TensorSpec([None, None, self.size.width], tf.float32, "states")],
            )
            tf.saved_model.save(model, str(folder / "model"), signatures={"serving_default": model.serve})
        return folder

    def openvino(self, precision: Precision) -> Path:
        """Returns the folder of OpenVINO's model; in int8 by NNCF."""
        import openvino

        folder = self._folder(f"openvino-{precision}", precision={"bf16": "bf16"}.get(precision, "f32"))
        if not (folder / "model.xml").exists():
            model = openvino.convert_model(str(self.tensorflow(xla=False) / "model"))
            if precision == "int8":
                import nncf

                inputs = [dict(np.load(path))["states"] for path in self.inputs(CALIBRATED)]
                model = nncf.quantize(model, nncf.Dataset(inputs), model_type=nncf.ModelType.TRANSFORMER)
            openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
        return folder

    def onnxruntime(self, precision: Precision) -> Path:
        """Returns the folder of ONNX Runtime's model; in int8 by its dynamic quantisation."""
        import onnx
        import tf2onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from onnxruntime.transformers.optimizer import optimize_model

        from optops.models.keras import tf

        folder = self._folder(f"onnxruntime-{precision}")
        if not (folder / "model.onnx").exists():
            function = tf.function(lambda states: encode(states, self.layers))
            spec = [tf.TensorSpec([None, None, self.size.width], tf.float32, "states")]
            plain, fused = folder / "plain.onnx", folder / "fused.onnx"
            onnx.save(tf2onnx.convert.from_function(function, spec, opset=17)[0], plain)
            sizes = {"num_heads": self.size.heads, "hidden_size": self.size.width}
            optimize_model(str(plain), "bert_tf", **sizes).save_model_to_file(str(fused))
            if precision == "int8":
                quantize_dynamic(fused, folder / "model.onnx", per_channel=True, weight_type=QuantType.QInt8)
            else:
                fused.rename(folder / "model.onnx")
        return folder

    def inputs(self, batch: int) -> list[Path]:
        """Returns files of one batch of states each."""
        random, paths = np.random.default_rng(batch), []
        for index in range(2):
            path = self.folder / f"states-{batch}-{index}.npz"
            np.savez(path, states=random.normal(size=(batch, LENGTH, self.size.width)).astype(np.float32))
            paths.append(path)
        return paths

    def _folder(self, name: str, **settings: Any) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / SETTINGS).write_text(json.dumps(settings))
        return folder


PEERS: dict[Precision, tuple[str, ...]] = {
    "int8": ("openvino", "onnxruntime"),
    "bf16": ("openvino",),
    "fp32": ("openvino", "onnxruntime", "tensorflow", "xla"),
}
BATCHES: dict[Precision, tuple[int, ...]] = {"int8": (1, 8), "bf16": (1,), "fp32": (1,)}


def prepared(bench: Bench, name: str, precision: Precision) -> Path:
    """Returns the folder of a peer's model, made in a process of its own: the converters keep gigabytes of weights."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(bench.peer, name, precision).result()


def comparisons(bench: Bench, threads: int, peers: set[str]) -> Iterator[Record]:
    """Yields a record for each precision, batch and peer."""
    for precision, names in PEERS.items():
        for batch in BATCHES[precision]:
            ours = Contender(f"optops {precision}", bench.ours(precision), threads, "encoders:load_ours")
            for name in (name for name in names if name in peers):
                loader = f"encoders:load_{'tensorflow' if name == 'xla' else name}"
                peer = Contender(f"{name} {precision}", prepared(bench, name, precision), threads, loader)
                work = f"{bench.size.name}, {LENGTH} tokens, {precision}, batch {batch}"
                yield compare(work, ours, peer, bench.inputs(batch), bench.seconds, seed=batch)
