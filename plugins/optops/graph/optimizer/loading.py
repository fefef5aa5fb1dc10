"""Reads what is to be optimised: SavedModels, Keras files and models, tf.Modules and frozen graphs."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.python.framework import op_def_registry

from optops.graph.freezing import (
    argument_names,
    freeze_function,
    load_prepared,
    with_branches_lowered,
    with_plain_inputs,
)
from optops.graph.optimizer.errors import OptimizerError
from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.operators import live_operators
from optops.models.keras import tf
from optops.models.meta_graph import PROTO

RANDOM = ("Random", "Multinomial", "TruncatedNormal", "Rng", "SampleDistortedBoundingBox", "CandidateSampler")
CALLS_PYTHON = ("PyFunc", "EagerPyFunc", "PyFuncStateless")
LOOPS = ("Enter", "RefEnter", "NextIteration", "RefNextIteration")
"""Of TensorFlow 1, where what a step gives goes back to a node before it: such a graph has no order."""
TABLES = ("HashTable", "HashTableV2", "MutableHashTable", "MutableHashTableV2")
READS = (
    "_Read",
    "LookupTableExport",
    "LookupTableFind",
    "LookupTableSize",
    "Read",
    "ResourceGather",
    "VarIsInit",
    "VariableShape",
)
"""Operators on variables and tables that leave them as they are begin so."""
WITHIN_A_CALL = ("Ref", "Stack", "TensorArray")
"""Operators on what lives for one call, or that pass on what others change."""
WRITES = ("DatasetToTFRecord", "MergeV2Checkpoints", "OutfeedEnqueue", "QueueEnqueue", "Save", "WriteFile")


@cache
def _changes(op: str) -> bool:
    """Returns whether an operator may change a variable, a table or whatever else outlives a call."""
    known = op_def_registry.get(op)
    if known is None or op.startswith((*READS, *WITHIN_A_CALL)):
        return False
    return any(each.is_ref or each.type == tf.resource.as_datatype_enum for each in known.input_arg)


CHANGING = "it changes variables or tables"
UNFIT: Mapping[str, Callable[[str], bool]] = {
    "its results are random": lambda op: "Rng" in op,  # of a generator, whose state is a variable
    "it calls Python": lambda op: op in CALLS_PYTHON,
    "it makes a table that only TensorFlow 1 can fill": lambda op: op in TABLES,
    "it has a loop of TensorFlow 1": lambda op: op in LOOPS,
    "it writes what others read": lambda op: op.startswith(WRITES),  # and would, of random inputs
    CHANGING: _changes,
}
"""Why a signature with an operator must stay as it is."""


def _is_random(op: str) -> bool:
    return any(part in op for part in RANDOM) and not op.startswith("Stateless")


@dataclass
class Signature:
    """One way to call a model.

    Attributes:
        name: Of the signature.
        original: The concrete function, unchanged.
        outputs: Names, in the order of the graph's outputs.
        graph: Frozen, without its calls; None if it can not be.
        captures: Placeholder to the resource that it stands for: lookup tables.
        reason: Why there is no graph.
    """

    name: str
    original: Any
    outputs: list[str]
    graph: Graph | None
    captures: dict[str, Any]
    reason: str = ""

    @property
    def inputs(self) -> dict[str, Any]:
        """Name to TensorSpec, in the order of the graph's inputs."""
        specs = self.original.structured_input_signature[1]
        return {name: specs[name] for name in (sorted(specs) if self.graph is None else argument_names(self.original))}


@dataclass
class Model:
    """A loaded SavedModel; `folder` must stay as long as it is used."""

    folder: Path
    loaded: Any
    signatures: dict[str, Signature]


def load(source: Any, scratch: Path) -> Model:
    """Returns the signatures of a model, frozen where that is possible.

    Args:
        source: Folder of a SavedModel, .keras file, frozen GraphDef (.pb), Keras model or tf.Module.
        scratch: Folder for a SavedModel of what is none.

    Raises:
        OptimizerError: If it can not be read, or uses operators that are not registered.
    """
    folder = _as_saved_model(source, scratch)
    _register_our_operators(folder / PROTO)
    try:
        prepared = scratch.with_name("prepared")
        prepared.mkdir(parents=True)
        loaded = load_prepared(folder, prepared)
    except Exception as error:
        raise OptimizerError(_explained(folder, error)) from error
    if not getattr(loaded, "signatures", None):
        what = folder if isinstance(source, str | Path) else f"the {type(source).__name__}"
        raise OptimizerError(
            f"{what} has no signature; save it with `tf.saved_model.save(..., signatures=...)`, and give its folder"
        )
    reasons = _reasons(loaded.signatures, prepared)
    signatures = {name: _signature(name, function, reasons[name]) for name, function in loaded.signatures.items()}
    return Model(folder, loaded, signatures)


def _as_saved_model(source: Any, scratch: Path) -> Path:
    if not isinstance(source, str | Path):
        return _save(source, scratch)
    path = Path(source)
    if (path / PROTO).is_file():
        return path
    if path.suffix == ".keras":
        from optops.models.importing import import_keras
        from optops.runtimes.tensorflow import SAVED_MODEL

        try:
            import_keras(path, scratch)
        except ValueError as error:
            raise OptimizerError(str(error)) from error
        return scratch / SAVED_MODEL
    if path.suffix == ".pb" and path.is_file():
        return _save_frozen(path, scratch)
    raise OptimizerError(f"{path} is no SavedModel (no {PROTO} in it), no .keras file and no frozen graph (.pb)")


def _save(model: Any, folder: Path) -> Path:
    if not hasattr(model, "export") and not isinstance(model, tf.Module):
        raise OptimizerError(f"{type(model).__name__} is no model: give a path, a Keras model or a tf.Module")
    try:
        if hasattr(model, "export"):
            model.export(str(folder))
        else:
            tf.saved_model.save(model, str(folder))
    except Exception as error:
        raise OptimizerError(f"the {type(model).__name__} can not be saved: {error}") from error
    return folder


def _save_frozen(path: Path, folder: Path) -> Path:
    """Writes a frozen graph as a SavedModel: placeholders are its inputs, what nothing reads its outputs."""
    try:
        graph_def = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    except Exception as error:  # protobuf's own, which has no types
        raise OptimizerError(f"{path} is no GraphDef: {error}") from error
    _register_our_operators(path)
    try:
        return _save_graph_def(path, graph_def, folder)
    except OptimizerError:
        raise
    except Exception as error:
        raise OptimizerError(_explained(path, error)) from error


def _save_graph_def(path: Path, graph_def: Any, folder: Path) -> Path:
    graph = Graph.of(graph_def, (), ())
    loop = next((node.op for node in graph.nodes.values() if node.op in LOOPS), None)
    if loop is not None:
        raise OptimizerError(
            f"{path} has a loop of TensorFlow 1 ({loop}), which no function can run; freeze the model with "
            "`lower_control_flow=False`, or give the SavedModel that it was made of"
        )
    inputs = [node for node in graph.nodes.values() if node.op == "Placeholder"]
    outputs = _unread(graph)
    if not inputs or not outputs:
        raise OptimizerError(f"{path} has {len(inputs)} placeholders and {len(outputs)} outputs; it needs both")
    specs = [
        tf.TensorSpec(graph.shape(f"{node.name}:0"), graph.dtype(f"{node.name}:0"), _plain(node.name))
        for node in inputs
    ]

    class Frozen(tf.Module):
        @tf.function(input_signature=specs, autograph=False)
        def serve(self, *arguments: Any) -> dict[str, Any]:
            feeds = {f"{node.name}:0": tensor for node, tensor in zip(inputs, arguments, strict=True)}
            found = tf.graph_util.import_graph_def(graph_def, feeds, list(outputs.values()), name="graph")
            return dict(zip(outputs, found, strict=True))

    module = Frozen()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return folder


def _unread(graph: Graph) -> dict[str, str]:
    """Returns what nodes give that nothing reads, tensors by the names of the outputs that they become.

    The first is called as its node, others have their number behind it, and an underscore where that is another's name.
    """
    made = {
        name: list(takewhile(lambda tensor: graph.dtype(tensor) is not None, (f"{name}:{i}" for i in count())))
        for name, node in graph.nodes.items()
        if node.op not in ("Placeholder", "Const") and not graph.outputs_of(node)
    }
    found = {_plain(name): tensors[0] for name, tensors in made.items() if tensors}  # a check gives nothing
    for name, tensors in made.items():
        for index, tensor in enumerate(tensors[1:], 1):
            free = f"{_plain(name)}_{index}"
            while free in found:
                free += "_"
            found[free] = tensor
    return found


def _plain(name: str) -> str:
    return name.replace("/", "_").replace(".", "_")


def _register_our_operators(file: Path) -> None:
    if b"Optops" in file.read_bytes():
        from optops.kernels.tensorflow import load_operators

        load_operators()


def _explained(path: Path, error: Exception) -> str:
    text = str(error)
    if "not registered" in text or "unregistered" in text.lower():
        return (
            f"{path} has operators that TensorFlow does not know: {text.splitlines()[0]}; load the library that "
            "has them (`tf.load_op_library`, or the package that registers them) before, and optimise from Python"
        )
    return f"{path} can not be loaded: {type(error).__name__}: {text}"


def _reasons(functions: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Returns by name why signatures must stay as they are; empty for those that need not."""
    operators = {name: _operators(function) for name, function in functions.items()}
    reasons = {name: _unfit(function, operators[name], folder) for name, function in functions.items()}
    changed: dict[Any, str] = {}
    for name, function in functions.items():
        if any(map(UNFIT[CHANGING], operators[name])):
            # Which of them it changes, functions that it calls may decide: all count.
            changed |= dict.fromkeys(_resources(function), name)
    for name, function in functions.items():
        changing = next((changed[each] for each in _resources(function) if each in changed), None)
        if changing is not None and not reasons[name]:
            reasons[name] = f"it reads what signature {changing!r} changes"
    return reasons


def _resources(function: Any) -> set[Any]:
    """Returns the variables and tables of a loaded function, by what tells that another function has them too."""
    captured = {id(resource) for resource, _ in function.graph.captures if resource.dtype == tf.resource}
    named = {node.attr["shared_name"].s for node in function.graph.as_graph_def().node}  # as TensorFlow 1 has them
    return captured | (named - {b""})


def _signature(name: str, function: Any, reason: str) -> Signature:
    outputs = sorted(function.structured_outputs)
    if reason:
        return Signature(name, function, outputs, None, {}, reason)
    try:
        frozen = freeze_function(function)
    except Exception as error:  # noqa: BLE001 - whatever TensorFlow can not convert stays as it is
        return Signature(name, function, outputs, None, {}, f"it can not be frozen: {type(error).__name__}: {error}")
    inputs = [tensor.name.partition(":")[0] for tensor in frozen.inputs]
    inside = {placeholder.name.partition(":")[0]: resource for resource, placeholder in function.graph.captures}
    captures = {name: inside[name] for name in inputs if name in inside}
    own = [name for name in inputs if name not in captures]
    if len(own) != len(function.structured_input_signature[1]) or len(own) != len(argument_names(function)):
        return Signature(name, function, outputs, None, {}, f"its inputs are called otherwise once it is frozen: {own}")
    graph_def = with_plain_inputs(with_branches_lowered(frozen.graph.as_graph_def()), own)
    graph = Graph.of(graph_def, [*own, *captures], [tensor.name for tensor in frozen.outputs])
    # Dropout may stand in a branch that a model takes in training alone.
    random = next(filter(_is_random, live_operators(graph)), None)
    if random is not None:
        return Signature(name, function, outputs, None, {}, f"its results are random ({random})")
    return Signature(name, function, outputs, graph, captures)


def _unfit(function: Any, operators: Sequence[str], folder: Path) -> str:
    """Returns why a function must stay as it is; empty if its inputs alone decide what plain tensors it gives."""
    for op in operators:
        for reason, is_meant in UNFIT.items():
            if is_meant(op):
                return f"{reason} ({op})"
    for name, output in sorted(function.structured_outputs.items()):
        if not isinstance(output, tf.TensorSpec | tf.Tensor):
            return f"its output {name!r} is no plain tensor ({type(output).__name__})"
    for captured, _ in function.graph.captures:
        # Its path would become a constant, and is another wherever the result lies.
        if captured.dtype == tf.string and any(os.fsencode(folder) in text for text in _texts(captured)):
            return "it reads a file of its assets"
    return ""


def _texts(tensor: Any) -> list[bytes]:
    """Returns what a tensor of texts holds; of one that has no value yet, nothing."""
    return np.ravel(np.asarray(tensor.numpy(), object)).tolist() if hasattr(tensor, "numpy") else []


def _operators(function: Any) -> list[str]:
    """Returns the kinds of nodes of a function and of those that it calls."""
    graph_def = function.graph.as_graph_def()
    called = (node for each in graph_def.library.function for node in each.node_def)
    return sorted({node.op for node in (*graph_def.node, *called)})
