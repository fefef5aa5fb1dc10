"""Writes a SavedModel of rewritten signatures; tables and assets go with it, what could not be rewritten stays."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from optops.graph.optimizer.function import as_function, weights_apart
from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.loading import Model
from optops.models.keras import tf
from optops.models.meta_graph import PROTO, read_served


def write(model: Model, graphs: Mapping[str, Graph | None], folder: Path) -> None:
    """Writes a SavedModel.

    Args:
        model: Where it comes from.
        graphs: One for each signature; None keeps it as it is. If all are None, the SavedModel is copied.
        folder: Where it goes; must not exist.
    """
    if not any(graphs.values()):
        shutil.copytree(model.folder, folder)
        return
    module = tf.Module()
    distinct = {id(graph): graph for graph in graphs.values() if graph is not None}
    weights = dict(zip(distinct, weights_apart(*distinct.values()), strict=True))
    shared: dict[bytes, Any] = {}
    functions: dict[int, Any] = {}
    signatures = {}
    for name, signature in model.signatures.items():
        graph = graphs[name]
        if graph is None:
            signatures[name] = signature.original
            continue
        if id(graph) not in functions:
            variables = {key: _variable(tensor, shared) for key, tensor in weights[id(graph)].items()}
            functions[id(graph)] = as_function(signature, graph, variables)
        signatures[name] = functions[id(graph)]
    module.weights = list(shared.values())
    if None in graphs.values():
        module.original = model.loaded  # with the variables of the signatures that stayed
    elif any(signature.captures for signature in model.signatures.values()):
        # Only then: how a model of TensorFlow 1 is initialised is a resource too, and holds its variables.
        module.resources = list(_resources(model.loaded))
    # Gradients of an activation's own (swish has one) can not be saved once its variables are constants.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(folder), signatures=signatures, options=options)
    _copy_defaults(model.folder, folder)


def _variable(weights: Any, shared: dict[bytes, Any]) -> Any:
    """Returns a variable that holds weights: the one of `shared` where other signatures have the same."""
    key = hashlib.sha256(tf.io.serialize_tensor(weights).numpy()).digest()  # of dtype, shape and values
    if key not in shared:
        shared[key] = tf.Variable(weights, trainable=False)
    return shared[key]


def _copy_defaults(source: Path, folder: Path) -> None:
    """Gives the signatures of a SavedModel the default values of another's, which go with no loaded function."""
    before, after = read_served(source), read_served(folder)
    given = {name: each.defaults for name, each in before.meta_graphs[0].signature_def.items() if each.defaults}
    if not given:
        return
    written = after.meta_graphs[0]
    nodes = {node.name: node for node in written.graph_def.node}
    for name, defaults in given.items():
        signature = written.signature_def[name]
        for key, value in defaults.items():
            signature.defaults[key].CopyFrom(value)
            placeholder = nodes[signature.inputs[key].name.partition(":")[0]]
            constant = written.graph_def.node.add(name=f"{placeholder.name}/default", op="Const")
            constant.attr["dtype"].type = value.dtype
            constant.attr["value"].tensor.CopyFrom(value)
            placeholder.op = "PlaceholderWithDefault"
            placeholder.input.append(constant.name)
    (folder / PROTO).write_bytes(after.SerializeToString())


def _resources(loaded: Any) -> Iterator[Any]:
    """Gives the tables and assets of a loaded SavedModel."""
    from tensorflow.python.checkpoint.graph_view import ObjectGraphView
    from tensorflow.python.trackable.asset import Asset
    from tensorflow.python.trackable.resource import CapturableResource

    for trackable in ObjectGraphView(loaded).breadth_first_traversal()[0]:
        if isinstance(trackable, CapturableResource | Asset):
            yield trackable
