"""Writes a SavedModel of rewritten signatures; tables and assets go with it, what could not be rewritten stays."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from optops.graph.optimizer.errors import SignatureError
from optops.graph.optimizer.function import as_function, keyword, weights_apart
from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.loading import Model
from optops.models.keras import tf
from optops.models.meta_graph import PROTO, read_served

EXTRA = "assets.extra"
"""What belongs to a SavedModel and no graph reads: requests with which TensorFlow Serving warms up."""


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
            functions[id(graph)] = _traced(name, as_function(signature, graph, variables))
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
    _restore(model, folder)
    if (model.folder / EXTRA).is_dir():
        shutil.copytree(model.folder / EXTRA, folder / EXTRA)


def _traced(name: str, function: Any) -> Any:
    """Returns a signature's tf.function; what it can not be traced with shows here, where it is known whose it is."""
    try:
        function.get_concrete_function()
    except Exception as error:
        raise SignatureError(name, f"can not be made a function: {error}") from error
    return function


def _variable(weights: Any, shared: dict[bytes, Any]) -> Any:
    """Returns a variable that holds weights: the one of `shared` where other signatures have the same."""
    key = hashlib.sha256(tf.io.serialize_tensor(weights).numpy()).digest()  # of dtype, shape and values
    if key not in shared:
        shared[key] = tf.Variable(weights, trainable=False)
    return shared[key]


def _restore(model: Model, folder: Path) -> None:
    """Gives the signatures of a written SavedModel what goes with no loaded function.

    That are the names of their methods (an Estimator's signatures classify), names of inputs that are no names in
    Python, and default values.
    """
    before, after = read_served(model.folder), read_served(folder)
    given, written = before.meta_graphs[0].signature_def, after.meta_graphs[0]
    nodes = {node.name: node for node in written.graph_def.node}
    functions = _functions(written.object_graph_def)
    for name, original in model.signatures.items():
        signature = written.signature_def[name]
        signature.method_name = given[name].method_name
        _rename(signature, functions[name], {keyword(each): each for each in original.inputs})
        for key, value in given[name].defaults.items():
            signature.defaults[key].CopyFrom(value)
            placeholder = nodes[signature.inputs[key].name.partition(":")[0]]
            constant = written.graph_def.node.add(name=f"{placeholder.name}/default", op="Const")
            constant.attr["dtype"].type = value.dtype
            constant.attr["value"].tensor.CopyFrom(value)
            placeholder.op = "PlaceholderWithDefault"
            placeholder.input.append(constant.name)
    (folder / PROTO).write_bytes(after.SerializeToString())


def _functions(objects: Any) -> dict[str, tuple[Any, Any]]:
    """Returns the functions of signatures, by name: what has their keywords, and what has their TensorSpecs."""
    (signatures,) = (each.node_id for each in objects.nodes[0].children if each.local_name == "signatures")
    bare = {each.local_name: objects.nodes[each.node_id] for each in objects.nodes[signatures].children}
    called = {name: node.bare_concrete_function for name, node in bare.items()}
    return {name: (each, objects.concrete_functions[each.concrete_function_name]) for name, each in called.items()}


def _rename(signature: Any, function: tuple[Any, Any], names: Mapping[str, str]) -> None:
    """Gives the inputs of a signature and of its function other names, those by which `names` has them."""
    called, concrete = function
    specs = concrete.canonicalized_input_signature.tuple_value.values[1].dict_value.fields
    for old, new in names.items():
        if old != new:
            for named in (signature.inputs, specs):
                named[new].CopyFrom(named[old])
                del named[old]
            specs[new].tensor_spec_value.name = new
    called.argument_keywords[:] = [names.get(each, each) for each in called.argument_keywords]


def _resources(loaded: Any) -> Iterator[Any]:
    """Gives the tables and assets of a loaded SavedModel."""
    from tensorflow.python.checkpoint.graph_view import ObjectGraphView
    from tensorflow.python.trackable.asset import Asset
    from tensorflow.python.trackable.resource import CapturableResource

    for trackable in ObjectGraphView(loaded).breadth_first_traversal()[0]:
        if isinstance(trackable, CapturableResource | Asset):
            yield trackable
