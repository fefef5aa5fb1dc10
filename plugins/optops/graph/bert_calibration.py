"""Plans a BERT's precision: what `make_plan` says of its weights, and the ranges of what its products take in int8.

ONNX Runtime and the operator library scale activations at run time; OpenVINO needs their ranges beforehand.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from optops.compression.quantization import plans
from optops.compression.quantization.calibration import Histogram
from optops.precision import Judge, PrecisionPlan
from optops.runtimes.onnxruntime import MODEL, open_session

if TYPE_CHECKING:
    from optops.compression.quantization.functional.calibrate import TensorRange

CALIBRATED = 64
"""Texts that ranges are found on, at most: each runs through the whole model."""


def make_plan(
    trainable: Path,
    precision: str,
    calibration: Callable[[], Iterator[Mapping[str, np.ndarray]]] | None = None,
    judge: Judge | None = None,
) -> PrecisionPlan:
    """Returns the plan for a precision; in int8 with the range of what every product takes, by the product's name.

    Args:
        trainable: Folder with the weights.
        precision: One of `PRECISIONS`.
        calibration: Gives calls of the model. If None, int8 is planned for runtimes alone that need no ranges.
        judge: Not needed: what is hurt is told by the weights alone.

    Raises:
        ValueError: If the precision is unknown, there are no calls, or an activation is not finite; names it.
    """
    plan = plans.make_plan(trainable, precision, judge=judge)
    if calibration is None or plan.precision != "int8":
        return plan
    # Imported late: plans in other precisions need no TensorFlow.
    from optops.graph.bert_onnx import classifier_graph
    from optops.graph.bert_serving import load_trained
    from optops.models.bert.weights import read_weights

    model, _ = load_trained(trainable)
    blocks = classifier_graph(read_weights(model), plan)
    chosen = product_ranges(blocks.graph.model(), blocks.quantized, islice(calibration(), CALIBRATED))
    return replace(
        plan,
        ranges={name: found.limits for name, found in chosen.items()},
        range_notes={name: str(found) for name, found in chosen.items()},
    )


def product_ranges(
    model: Any, products: Collection[str], calls: Iterator[Mapping[str, np.ndarray]]
) -> dict[str, "TensorRange"]:
    """Returns the range of what each product takes, by the name of its node.

    Args:
        model: An ONNX model in full precision.
        products: Names of nodes.
        calls: Inputs of the model; every fourth judges the ranges that the others give.

    Raises:
        ValueError: If there are no calls, or a tensor is not finite; names the product.
    """
    import onnx

    from optops.compression.quantization.functional.calibrate import HELD_OUT, choose_range

    takes = {node.name: node.input[0] for node in model.graph.node if node.name in products}
    found, judged = ({name: Histogram(name) for name in takes} for _ in range(2))
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    tensors = sorted(set(takes.values()))
    observed.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in tensors)
    number = 0
    with TemporaryDirectory(prefix="optops-calibration-") as temporary:
        path = Path(temporary) / MODEL
        onnx.save(observed, str(path))
        session = open_session(path, threads=len(os.sched_getaffinity(0)))
        for number, call in enumerate(calls, 1):
            arrays = dict(zip(tensors, session.run(tensors, dict(call)), strict=True))
            histograms = found if number % HELD_OUT else judged
            for name, tensor in takes.items():
                histograms[name].add(arrays[tensor])
    if not number:
        raise ValueError("calibration: there are no calls; give some inputs of the model")
    return {name: choose_range(found[name], judged[name] if number >= HELD_OUT else found[name]) for name in takes}
