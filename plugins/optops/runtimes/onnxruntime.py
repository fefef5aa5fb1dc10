"""Runtime `onnxruntime`: one ONNX graph per call, or the graphs of a translator driven by beam search."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from optops.models.transformer.search import SearchSettings
from optops.runtimes.base import Arrays, Executable, ExecutableInfo, Runtime
from optops.runtimes.beam_search import Continuations, Hypothesis, beam_search, n_best, source_lengths

GRAPH, TRANSLATE = "graph", "translate"
MODEL = "model.onnx"
ENCODER, STEP, SELECT = "encoder.onnx", "step.onnx", "select.onnx"
DISABLED_OPTIMIZERS = ["Pad_Fusion", "SkipLayerNormFusion"]
"""The first merges a padding with zeros into a max-pooling, which then takes the largest of what is not padding; the
second joins a sum and its layer norm in a kernel that takes several times as long as the two."""
FOUND = ["scores", "continuations", "origins", "end_scores"]


class OnnxRuntime(Runtime):
    """Loads `model.onnx` (driver `graph`) or `encoder.onnx`, `step.onnx` and `select.onnx` (driver `translate`)."""

    name: ClassVar[str] = "onnxruntime"
    precisions: ClassVar[frozenset[str]] = frozenset({"fp32", "fp16", "int8"})

    def unavailable(self) -> str | None:
        """Returns what to install if ONNX Runtime is not installed."""
        if find_spec("onnxruntime") is None:
            return "ONNX Runtime is not installed; install optops with the extra `cpu` or `gpu`"
        return None

    def load(self, folder: Path, info: ExecutableInfo, threads: int) -> Executable:
        """Returns the executable in `folder`.

        Raises:
            ValueError: If its driver is unknown.
        """
        if info.driver == TRANSLATE:
            return Translator(folder, info, threads)
        if info.driver != GRAPH:
            raise ValueError(f"{folder}: driver {info.driver!r} is unknown; known are {GRAPH}, {TRANSLATE}")
        session = open_session(folder / MODEL, threads)
        names = sorted(info.outputs)  # the graph gives them in this order, under names of its own

        def execute(inputs: Arrays) -> dict[str, np.ndarray]:
            info.check(inputs)
            return dict(zip(names, session.run(None, dict(inputs)), strict=True))

        return execute


def open_session(path: Path, threads: int, spinning: bool = True, optimized: Path | None = None) -> Any:
    """Returns an inference session on the CPU with all optimisations on.

    Args:
        path: The ONNX file.
        threads: Threads within an operator; operators run one after the other.
        spinning: Whether idle threads wait for the next call for a while. Not for a session that shares the CPU
            with another one: its idle threads would take the other's time.
        optimized: Where the graph is written as it is executed here, if anywhere.
    """
    import onnxruntime

    # A graph's warnings come through the logger of the process while it is read, whatever the session's options say.
    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    return onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=DISABLED_OPTIMIZERS
    )


class Translator:
    """Token ids in, token ids and scores out.

    Args:
        folder: Holds the three graphs.
        info: Describes them.
        threads: Threads within an operator.
    """

    def __init__(self, folder: Path, info: ExecutableInfo, threads: int) -> None:
        self.info, self.settings = info, SearchSettings.from_mapping(info.settings)
        self.encoder = open_session(folder / ENCODER, threads, spinning=False)
        self.step = open_session(folder / STEP, threads)
        self.select = open_session(folder / SELECT, threads, spinning=False)

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Returns `ids` int32 [b, out] and `scores` float32 [b] for `ids` int32 [b, s]."""
        self.info.check(inputs)
        decoder = _CachedDecoder(self, inputs["ids"])
        ids, scores = beam_search(decoder, source_lengths(inputs["ids"]), self.settings)
        return {"ids": ids, "scores": scores}

    def n_best(self, inputs: Arrays) -> list[list[Hypothesis]]:
        """Returns all finished hypotheses of each sentence, best first, for `ids` int32 [b, s]."""
        self.info.check(inputs)
        return n_best(_CachedDecoder(self, inputs["ids"]), source_lengths(inputs["ids"]), self.settings)


class _CachedDecoder:
    """Keeps the caches as ONNX Runtime's own values: they never pass through NumPy."""

    def __init__(self, translator: Translator, ids: np.ndarray) -> None:
        from onnxruntime import OrtValue

        self.value = OrtValue.ortvalue_from_numpy
        self.translator = translator
        names = [output.name for output in translator.encoder.get_outputs()]
        values = translator.encoder.run_with_ort_values(names, {"ids": self.value(ids)})
        self.cross = dict(zip(names, values, strict=True))
        self.grown = [o.name for o in translator.step.get_outputs() if o.name not in FOUND]
        shapes = {i.name: i.shape for i in translator.step.get_inputs()}
        self.cache = {name.removesuffix("_grown"): None for name in self.grown}
        for name in self.cache:
            shape = [len(ids) if size == "batch" else 0 if size == "written" else size for size in shapes[name]]
            self.cache[name] = self.value(np.zeros(shape, np.float32))

    def step(self, tokens: np.ndarray, parents: np.ndarray, alive: np.ndarray, position: int) -> Continuations:
        feeds = {
            "tokens": self.value(tokens),
            "parents": self.value(parents),
            "alive": self.value(alive),
            "position": self.value(np.array([position])),
            **self.cache,
            **self.cross,
        }
        values = self.translator.step.run_with_ort_values(FOUND + self.grown, feeds)
        self.cache = dict(zip(self.cache, values[len(FOUND) :], strict=True))
        return Continuations(*(value.numpy() for value in values[: len(FOUND)]))

    def select(self, rows: np.ndarray) -> None:
        feeds = {"rows": self.value(rows), **self.cache, **self.cross}
        names = [*self.cache, *self.cross]
        values = self.translator.select.run_with_ort_values([f"{name}_kept" for name in names], feeds)
        kept = dict(zip(names, values, strict=True))
        self.cache = {name: kept[name] for name in self.cache}
        self.cross = {name: kept[name] for name in self.cross}
