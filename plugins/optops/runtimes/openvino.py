"""Runtime `openvino`: one ONNX graph per call, compiled for this CPU by OpenVINO."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from optops.runtimes.base import Arrays, Executable, ExecutableInfo, Runtime
from optops.runtimes.onnxruntime import MODEL


class OpenVinoRuntime(Runtime):
    """Loads `model.onnx`; in `bf16` products run, in `fp16` weights are stored, inputs and outputs stay as they are."""

    name: ClassVar[str] = "openvino"
    precisions: ClassVar[frozenset[str]] = frozenset({"fp32", "fp16", "bf16", "int8"})

    def unavailable(self) -> str | None:
        """Returns what to install if OpenVINO is not installed."""
        if find_spec("openvino") is None:
            return "OpenVINO is not installed; install optops with the extra `cpu`"
        return None

    def load(self, folder: Path, info: ExecutableInfo, threads: int) -> Executable:
        """Returns the executable in `folder`."""
        request = compile_model(folder / MODEL, info.precision, threads).create_infer_request()
        names = sorted(info.outputs)  # the graph gives them in this order, under names of its own

        def execute(inputs: Arrays) -> dict[str, np.ndarray]:
            info.check(inputs)
            outputs = request.infer(dict(inputs), share_inputs=True)  # copies of memory that the next call writes into
            return dict(zip(names, outputs.values(), strict=True))

        return execute


def compile_model(path: Path, precision: str, threads: int) -> Any:
    """Returns a model compiled for the CPU and for calls that come one at a time.

    Args:
        path: The ONNX file.
        precision: What products run in; what a graph says itself, as int8 does, stays.
        threads: Of one call.
    """
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        # Left to itself it takes bfloat16 where the CPU has it, whatever was asked for.
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    core = openvino.Core()
    return core.compile_model(core.read_model(str(path)), "CPU", settings)


def has_bf16() -> bool:
    """Returns whether OpenVINO computes products in bfloat16 on this CPU."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
