"""Our int8 beside that of the toolkits' own quantisers, ONNX Runtime's and NNCF, from one model and the same examples.

Theirs start from the graph in full precision that ours is lowered to, batch norms folded, and run with the same session
settings, so that what differs is which tensors are rounded, and to which ranges.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import vision
from networks import SEED, Arrays, Network, Report, alone, difference, plan_of, saved_cells, threads

from optops.compression.quantization.functional.measured import host_weight_levels
from optops.graph.lowering import lower
from optops.measurement.timing import compare_all
from optops.measurement.worker_process import Contender, Worker
from optops.models.base import load_architecture
from optops.models.resnet import INPUT, OUTPUT, ResNetSizes
from optops.precision import PrecisionPlan
from optops.runtimes import load_executable
from optops.runtimes.base import ExecutableInfo
from optops.runtimes.onnxruntime import MODEL
from optops.runtimes.openvino import compile_model
from optops.workloads.image_classification.shapes import SHAPES, SIDE, draw_shape

FLOAT_MODEL = "float.onnx"
NNCF_MODEL = "model.xml"
NNCF = "NNCF"
PEERS = {"ONNX Runtime": "onnxruntime", NNCF: "openvino"}
RESNET = ResNetSizes(len(SHAPES), SIDE, width=0.25, small_stem=True)
CALIBRATED = 64


@dataclass(frozen=True)
class Labelled:
    """Images of drawn shapes, float32 [images, side, side, 3], 0 to 1, and their classes, int32 [images]."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Subject:
    """What is quantised: a network of one model, and what its accuracy is measured on, if it has been trained."""

    network: Network
    test: Labelled | None = None


@dataclass(frozen=True)
class Duel:
    """Our int8 and a peer's on one cell, timed in turn.

    Attributes:
        network: Its name.
        runtime: That executes both.
        peer: Whose quantiser the other one is.
        cell: Name of the cell.
        peer_milliseconds: Median latency of the peer's.
        milliseconds: Of ours.
        ratio: Times as fast as the peer's ours is.
        low: Lower end of the ratio's 95 % interval.
        high: Upper end.
        peer_difference: Largest difference of the peer's outputs from those in full precision, relative to the largest.
        difference: Of ours.
        float_accuracy: Of the model in full precision, in percent; None where the model has not been trained.
        peer_accuracy: Of the peer's.
        accuracy: Of ours.
    """

    network: str
    runtime: str
    peer: str
    cell: str
    peer_milliseconds: float
    milliseconds: float
    ratio: float
    low: float
    high: float
    peer_difference: float
    difference: float
    float_accuracy: float | None
    peer_accuracy: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Judged:
    """An executable in int8, and what it makes of the model."""

    contender: Contender
    difference: float
    accuracy: float | None


def subjects() -> list[Subject]:
    """Returns a classifier, trained on drawn shapes, and the super-resolution network at full size."""
    return [classifier(RESNET, images=3000, epochs=6), Subject(vision.super_resolution(vision.UPSCALER, vision.SIDE))]


def classifier(sizes: ResNetSizes, images: int, epochs: int) -> Subject:
    """Returns a ResNet that learns to tell drawn shapes.

    Args:
        sizes: Of the network.
        images: Training images; half as many test it.
        epochs: Passes over them.
    """
    test = draw(images // 2, seed=SEED + 1)
    calibration = [{INPUT: image[None]} for image in draw(CALIBRATED, seed=SEED + 2).images]
    cells = {f"batch {count}": {INPUT: test.images[:count]} for count in (1, 8)}
    name = f"ResNet-{sizes.depth} of {sizes.width:g} times the width, {sizes.image_size} x {sizes.image_size}, trained"
    build = partial(_trained, sizes, images, epochs)
    return Subject(Network(name, "functional", build, {}, cells, calibration), test)


def draw(count: int, seed: int) -> Labelled:
    """Returns drawn shapes, as many of each."""
    labels = np.arange(count, dtype=np.int32) % len(SHAPES)
    drawn = [draw_shape(SHAPES[label], np.random.default_rng([seed, place])) for place, label in enumerate(labels)]
    return Labelled(np.stack(drawn).astype(np.float32) / 255, labels)


def compare(subject: Subject, seconds: float, report: Report) -> list[Duel]:
    """Quantises a subject by ours and by each peer, judges all and times ours beside each peer's.

    Args:
        subject: What is quantised.
        seconds: For each pair on each cell.
        report: Told what is under way.

    Raises:
        RuntimeError: If one of the executables can not be timed.
    """
    network, duels = subject.network, []
    with TemporaryDirectory(prefix="optops-benchmark-") as temporary:
        report(f"{network.name}: quantising")
        float_accuracy, ours, theirs = alone(quantised, subject, Path(temporary))
        cells = saved_cells(network, Path(temporary))
        for peer, runtime in PEERS.items():
            mine, other = ours[runtime], theirs[peer]
            report(f"{network.name}: {peer}")
            with Worker(other.contender) as peers:
                measured = compare_all(peers, [mine.contender], cells, seconds=seconds, seed=SEED)
            if measured.failures:
                raise RuntimeError(f"{network.name}: {measured.failures[0].reason}")
            for one in measured.comparisons:
                times, speed = one.comparison, one.comparison.speed_up
                latencies = [side.latency["p50"] * 1e3 for side in (times.reference, times.candidate)]
                found = (speed.ratio, speed.low, speed.high, other.difference, mine.difference)
                accuracies = (float_accuracy, other.accuracy, mine.accuracy)
                duels.append(Duel(network.name, runtime, peer, one.cell, *latencies, *found, *accuracies))
    return duels


def quantised(subject: Subject, folder: Path) -> tuple[float | None, Mapping[str, Judged], Mapping[str, Judged]]:
    """Returns the accuracy in full precision, our executables by runtime, and theirs by peer."""
    from optops.models.training.threads import share_cores

    share_cores(1)
    network = subject.network
    model = network.build()[vision.WHOLE]
    trainable = folder / "trainable"
    load_architecture(network.architecture).save(model, trainable, {})
    plain = folder / "float"
    lower(trainable, PrecisionPlan("fp32"), "onnxruntime", plain)
    loaded = load_executable(plain, threads())
    expected = {name: loaded(inputs) for name, inputs in network.cells.items()}

    def judged(contender: Contender, call: Callable[[Arrays], Arrays]) -> Judged:
        differences = [difference(call(inputs), expected[name]) for name, inputs in network.cells.items()]
        return Judged(contender, max(differences), _accuracy(subject, call))

    plan = plan_of(network, trainable, "int8")
    ours = {}
    for runtime in dict.fromkeys(PEERS.values()):
        own = folder / f"ours {runtime}"
        lower(trainable, plan, runtime, own)
        ours[runtime] = judged(Contender("optops", own, threads()), load_executable(own, threads()))
    theirs = {}
    for peer, runtime in PEERS.items():
        own = folder / peer
        own.mkdir()
        info = ExecutableInfo.load(plain)
        replace(info, precision="int8", runtime=runtime).save(own)
        if peer == NNCF:
            quantise_by_nncf(plain / MODEL, own, network)
            contender = Contender(peer, own, threads(), "quantisers:load_nncf")
            theirs[peer] = judged(contender, load_nncf(own, threads()))
        else:
            quantise_by_onnxruntime(plain / MODEL, own, network)
            theirs[peer] = judged(Contender(peer, own, threads()), load_executable(own, threads()))
    return _accuracy(subject, loaded), ours, theirs


def quantise_by_onnxruntime(model: Path, folder: Path, network: Network) -> None:
    """Writes `model.onnx` as ONNX Runtime's documentation recommends for a CPU.

    That is after its preprocessing, with pairs of QuantizeLinear and DequantizeLinear, both sides signed, one scale for
    each output channel, and 7-bit weights where sums of 8-bit products saturate. Ranges are by least and largest value:
    by entropy, with the few bins that it gives its histograms, it finds the same.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.calls = iter(network.calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.calls, None)  # type: ignore[arg-type]

    quant_pre_process(str(model), str(folder / FLOAT_MODEL))
    quantize_static(
        str(folder / FLOAT_MODEL),
        str(folder / MODEL),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=host_weight_levels() < 127,
    )


def quantise_by_nncf(model: Path, folder: Path, network: Network) -> None:
    """Writes `model.xml`, the OpenVINO model quantised by NNCF as it is by default.

    Where sums of 8-bit products saturate, NNCF recommends the default too: 7 bits for the first layer's weights alone.
    """
    import nncf
    import openvino

    data = nncf.Dataset(list(network.calibration))
    made = nncf.quantize(openvino.Core().read_model(model), data, subset_size=len(network.calibration))
    openvino.save_model(made, folder / NNCF_MODEL, compress_to_fp16=False)


def load_nncf(folder: Path, count: int) -> Callable[[Arrays], Arrays]:
    """Returns what NNCF made, called as the runtime `openvino` calls ours."""
    request = compile_model(folder / NNCF_MODEL, "int8", count).create_infer_request()
    names = sorted(ExecutableInfo.load(folder).outputs)

    def call(inputs: Arrays) -> Arrays:
        return dict(zip(names, request.infer(dict(inputs), share_inputs=True).values(), strict=True))

    return call


def _accuracy(subject: Subject, call: Callable[[Arrays], Arrays]) -> float | None:
    """Returns the share of the test images that are told right, in percent."""
    if subject.test is None:
        return None
    size = 100
    pieces = [subject.test.images[start : start + size] for start in range(0, len(subject.test.images), size)]
    found = np.concatenate([call({INPUT: piece})[OUTPUT].argmax(axis=-1) for piece in pieces])
    return 100 * float((found == subject.test.labels).mean())


def _trained(sizes: ResNetSizes, images: int, epochs: int) -> dict[str, Any]:
    from optops.models.keras import keras
    from optops.models.resnet import build_resnet
    from optops.models.training import TrainingSettings, fit
    from optops.workloads.image_cache import ImageCache
    from optops.workloads.image_classification.batches import ImageBatches
    from optops.workloads.image_classification.losses import label_loss

    keras.utils.set_random_seed(SEED)
    model, data, held_out = build_resnet(sizes), draw(images, seed=SEED), draw(images // 10, seed=SEED + 3)
    pixels = (255 * data.images).round().astype(np.uint8)
    batches = ImageBatches(
        ImageCache(lambda number: pixels[number]), data.labels, batch=32, mirrored=True, shifted=2, seed=SEED
    )
    settings = TrainingSettings(
        epochs, 2e-3, "cosine", warmup_steps=20, replicas=1, label_smoothing=0.0, average_checkpoints=1, seed=SEED
    )

    def validate(trained: Any) -> float:
        return float((trained.predict(held_out.images, verbose=0).argmax(axis=-1) == held_out.labels).mean())

    with TemporaryDirectory(prefix="optops-benchmark-") as checkpoints:
        fit(
            model,
            batches=batches,
            loss=label_loss(0.0),
            validate=validate,
            settings=settings,
            checkpoints=Path(checkpoints),
        )
    return {vision.WHOLE: model}
