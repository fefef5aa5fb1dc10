"""The contract of a runtime: it loads a `serving/` folder and calls it with arrays."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np

from optops.models.base import LoweringFunction
from optops.runtimes.constraints import violation
from optops.runtimes.fixed_batch import call_in_batches, fixed_batch

EXECUTABLE_FILE = "executable.json"
SERVED_ONLY = "served_only"
"""The fact that says why an imported model can be served, and no more."""
FORMAT_VERSION = 1
STRING = "string"
IMPORTED = "imported"
"""Stands for the architecture of models that came without anything to train, among what a runtime lowers."""

Arrays = Mapping[str, np.ndarray]
Executable = Callable[[Arrays], dict[str, np.ndarray]]
"""Maps named input arrays to named output arrays; the names are those of `ExecutableInfo`."""


class InvalidInputError(ValueError):
    """An input that an executable refuses: a missing or unknown name, a wrong dtype, rank or value."""


def dtype_name(array: np.ndarray) -> str:
    """Returns the name of an array's dtype as TensorFlow has it: texts of any length are `string`."""
    return _name(array.dtype)


@cache
def _name(dtype: np.dtype) -> str:
    return STRING if dtype.kind in "US" else str(dtype)


def without_objects(array: np.ndarray) -> np.ndarray:
    """Returns texts, which runtimes give as objects, as texts: they can be kept without pickle and sent as JSON."""
    if array.dtype.kind not in "OS":
        return array
    texts = [text.decode("utf-8", errors="replace") if isinstance(text, bytes) else text for text in array.ravel()]
    return np.array(texts, np.str_).reshape(array.shape)


@dataclass(frozen=True)
class ExecutableInfo:
    """What `serving/executable.json` says of the folder it lies in.

    Attributes:
        runtime: Name of the runtime that loads the folder.
        precision: `fp32`, `bf16`, `fp16` or `int8`.
        inputs: Name to {dtype, shape}; None in a shape is a dynamic size. May hold further constraints, which
            `optops.runtimes.constraints` describes.
        outputs: The same for what comes out.
        driver: How the runtime executes it: `graph` (one call of one graph) or a driver of the runtime's own.
        settings: What the driver needs, for example the beam and the limits on length.
        facts: What lowering did, for people and reports: nodes before and after, nodes quantised.
        format_version: Of this file; newer code reads older versions.
    """

    runtime: str
    precision: str
    inputs: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, Mapping[str, Any]]
    driver: str = "graph"
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, float | str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def save(self, folder: Path) -> None:
        """Writes `executable.json` into a folder."""
        (folder / EXECUTABLE_FILE).write_text(json.dumps(asdict(self), indent=1, sort_keys=True), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "ExecutableInfo":
        """Reads `executable.json` from a folder.

        Raises:
            FileNotFoundError: If the folder holds no executable.
            ValueError: If a newer optops wrote it.
        """
        path = folder / EXECUTABLE_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing, so {folder} holds no executable")
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format_version"] > FORMAT_VERSION:
            raise ValueError(
                f"{path}: format version {data['format_version']} is newer than {FORMAT_VERSION}, "
                "the newest that this optops reads; update optops"
            )
        return cls(**data)

    @cached_property
    def fixed_batch(self) -> int | None:
        """Returns how many examples each call takes if the signature fixes that, else None."""
        return fixed_batch(self.inputs, self.outputs)

    def check(self, inputs: Arrays) -> None:
        """Refuses inputs that do not fit.

        Raises:
            InvalidInputError: Names the input, what it is, and what it should be.
        """
        for name in inputs:
            if name not in self.inputs:
                raise InvalidInputError(f"input {name!r} is unknown; expected {', '.join(sorted(self.inputs))}")
        for name, wanted in self.inputs.items():
            if name not in inputs:
                raise InvalidInputError(f"input {name!r} is missing; expected {wanted['dtype']} {wanted['shape']}")
            array, shape = inputs[name], wanted["shape"]
            fits = len(array.shape) == len(shape) and all(
                size is None or size == actual for size, actual in zip(shape, array.shape, strict=True)
            )
            if not fits or dtype_name(array) != wanted["dtype"]:
                raise InvalidInputError(
                    f"input {name!r} is {dtype_name(array)} {list(array.shape)}; expected {wanted['dtype']} {shape}"
                )
            reason = violation(array, wanted)
            if reason:
                raise InvalidInputError(f"input {name!r} {reason}")


@dataclass(frozen=True)
class LoadedExecutable:
    """An executable that still says what it is: called with arrays, it gives arrays.

    Whatever the runtime, it takes any number of examples, also where the signature fixes how many, and gives texts as
    arrays of texts.

    Attributes:
        info: What it is.
        call: What executes a call.
        one_at_a_time: Held by a call, for servers call from many threads, and runtimes promise nothing for these.
    """

    info: ExecutableInfo
    call: Executable
    one_at_a_time: Lock = field(default_factory=Lock, repr=False, compare=False)

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Executes one call; others wait for it."""
        size = self.info.fixed_batch
        with self.one_at_a_time:
            outputs = call_in_batches(self.call, inputs, size) if size else self.call(inputs)
        return {name: without_objects(array) for name, array in outputs.items()}


class Runtime(ABC):
    """Loads and executes `serving/` folders.

    Life cycle: `unavailable` tells whether this machine can run it at all; what `lowerings` names turns a model into a
    folder for it; `load` returns an executable that is called many times, from one thread at a time. Built-in runtimes
    are listed in `RUNTIMES`, others come from the entry point group `optops.runtimes`.
    """

    name: ClassVar[str]
    precisions: ClassVar[frozenset[str]]

    @abstractmethod
    def unavailable(self) -> str | None:
        """Returns why this machine can not run it and what would help, or None if it can."""

    def lowerings(self) -> Mapping[str, LoweringFunction]:
        """Returns architecture -> what lowers its models to this runtime, beside what architectures themselves name.

        The key `imported` stands for models that came without anything to train: their function gets the folder of a
        SavedModel with its `executable.json` instead of a `trainable/` folder. Each writes `executable.json` with the
        name of this runtime. By default there is none: the built-in architectures name the built-in runtimes.
        """
        return {}

    @abstractmethod
    def load(self, folder: Path, info: ExecutableInfo, threads: int) -> Executable:
        """Returns the executable in `folder`, restricted to `threads` threads.

        The executable calls `info.check` on what it is given.
        """


RUNTIMES: dict[str, str] = {
    "tensorflow": "optops.runtimes.tensorflow:TensorFlowRuntime",
    "tensorflow+kernels": "optops.runtimes.tensorflow_kernels:TensorFlowKernelsRuntime",
    "onnxruntime": "optops.runtimes.onnxruntime:OnnxRuntime",
    "openvino": "optops.runtimes.openvino:OpenVinoRuntime",
}


def runtime_names() -> list[str]:
    """Returns the names of all runtimes, built in and plugged in."""
    return sorted({*RUNTIMES, *(entry.name for entry in entry_points(group="optops.runtimes"))})


def load_runtime(name: str) -> Runtime:
    """Returns a runtime by name.

    Raises:
        LookupError: If nothing has that name; says what there is.
    """
    if name in RUNTIMES:
        module, _, attribute = RUNTIMES[name].partition(":")
        return getattr(import_module(module), attribute)()  # type: ignore[no-any-return]
    for entry in entry_points(group="optops.runtimes"):
        if entry.name == name:
            return entry.load()()  # type: ignore[no-any-return]
    raise LookupError(f"runtime {name!r} is unknown; known are {', '.join(runtime_names())}")


def load_executable(folder: Path, threads: int) -> Executable:
    """Returns the executable in a `serving/` folder, whatever runtime it needs.

    Raises:
        RuntimeError: If that runtime is not available here; says why.
    """
    info = ExecutableInfo.load(folder)
    runtime = load_runtime(info.runtime)
    reason = runtime.unavailable()
    if reason:
        raise RuntimeError(f"{folder} needs runtime {info.runtime!r}, which is not available here: {reason}")
    return LoadedExecutable(info, runtime.load(folder, info, threads))
