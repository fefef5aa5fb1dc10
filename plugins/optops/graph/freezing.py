"""Makes constants of a SavedModel's variables, also where loops look rows of them up."""

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from optops.models.keras import tf
from optops.models.meta_graph import PROTO, read_served

SIGNATURE = "serving_default"


def freeze(saved_model: Path, *, inline_compiled: bool = False) -> Any:
    """Returns the signature `serving_default` as a concrete function without variables; its loops stay functions.

    Its inputs are in the order of the signature's arguments, whose names `input_names` gives; its outputs are a list in
    the order of their sorted names.

    Args:
        saved_model: Folder of the SavedModel.
        inline_compiled: Whether functions that XLA is to compile (Keras' grouped convolutions) become part of the
            graph. TensorFlow can not execute these otherwise, all other runtimes only so.
    """
    loaded = load_freezable(saved_model, inline_compiled=inline_compiled)
    signature = loaded.signatures[SIGNATURE]
    frozen = freeze_function(signature)
    frozen.arguments = argument_names(signature)
    frozen.keep_alive = loaded  # the lookup tables that it still uses
    return frozen


def load_freezable(saved_model: Path, *, inline_compiled: bool = False) -> Any:
    """Loads a SavedModel in which every lookup of a variable's rows is a read and a gather; see `freeze`.

    TensorFlow's own conversion leaves ResourceGather (an embedding's lookup) alone within a function, so a loop that
    embeds what it wrote would be left with a resource that is no longer there. Read and gather as two operations are
    converted everywhere.
    """
    with tempfile.TemporaryDirectory(prefix="optops-freeze-") as folder:
        return load_prepared(saved_model, Path(folder), inline_compiled=inline_compiled)


def load_prepared(saved_model: Path, folder: Path, *, inline_compiled: bool = False) -> Any:
    """Does what `load_freezable` does, by way of a folder that must stay if the files of tables are saved again."""
    return tf.saved_model.load(str(_prepared(saved_model, folder, inline_compiled)))


def freeze_function(function: Any) -> Any:
    """Returns a concrete function with constants for its variables, its calls inlined, its loops left as they are."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    # Loops lowered to frames can neither be called from another function nor be converted to ONNX.
    return convert_variables_to_constants_v2(function, lower_control_flow=False)


def with_branches_lowered(graph_def: Any) -> Any:
    """Lets TensorFlow lower the branches of a graph as it runs them, which freezing forbids: in place.

    Eight branches in a row were seen to take 5 to 6 % less time so. Loops stay functions: recurrent layers were seen to
    take 6 to 30 % more once they are lowered.
    """
    for node in (*graph_def.node, *(node for function in graph_def.library.function for node in function.node_def)):
        if node.op in ("If", "StatelessIf"):
            node.attr["_lower_using_switch_merge"].b = True
    return graph_def


def with_plain_inputs(graph_def: Any, inputs: Collection[str]) -> Any:
    """Makes the inputs of a graph that have a default ones without, in place: whoever calls a function gives them all.

    Args:
        graph_def: Changed.
        inputs: Names of their nodes.
    """
    for node in graph_def.node:
        if node.name in inputs and node.op == "PlaceholderWithDefault":
            node.op = "Placeholder"
            del node.input[:]
    return graph_def


def argument_names(signature: Any) -> list[str]:
    """Returns the names of a loaded signature's arguments in the order of its graph's inputs.

    Placeholders may have others: those of TensorFlow 1 are called as whoever wrote the graph wished.
    """
    return list(signature._arg_keywords)


def input_names(frozen: Any) -> list[str]:
    """Returns the names of what `freeze` gives takes, in order: the arguments, then the tables that it still uses."""
    tables = frozen.inputs[len(frozen.arguments) :]
    return [*frozen.arguments, *(tensor.name.partition(":")[0] for tensor in tables)]


def save_frozen(frozen: Any, outputs: Sequence[str], saved_model: Path) -> None:
    """Writes a frozen signature as a SavedModel again.

    Args:
        frozen: From `freeze`.
        outputs: Names of the outputs.
        saved_model: Folder that is written.
    """
    specs = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=name)
        for name, tensor in zip(input_names(frozen), frozen.inputs, strict=True)
    ]

    @tf.function(input_signature=specs, autograph=False)
    def serve(*arguments: tf.Tensor) -> dict[str, tf.Tensor]:
        given = frozen(*[tf.convert_to_tensor(argument) for argument in arguments])
        return dict(zip(sorted(outputs), given, strict=True))

    module = tf.Module()
    module.frozen = frozen.keep_alive
    save_signature(module, serve, saved_model)


def save_signature(module: tf.Module, function: Any, saved_model: Path) -> None:
    """Writes a SavedModel with one signature, `serving_default`; it can not be trained."""
    # Gradients of an activation's own (swish has one) can not be saved once its variables are constants.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(saved_model), signatures={SIGNATURE: function}, options=options)


def _prepared(saved_model: Path, folder: Path, inline_compiled: bool) -> Path:
    proto = read_served(saved_model)
    (meta_graph,) = proto.meta_graphs
    for function in meta_graph.graph_def.library.function:
        if inline_compiled:
            function.attr.pop("_noinline", None)
        for node in list(function.node_def):
            if inline_compiled:
                node.attr.pop("_XlaMustCompile", None)
            if node.op == "ResourceGather":
                _split(node, function.node_def)
    (folder / PROTO).write_bytes(proto.SerializeToString())
    for name in ("variables", "assets"):
        if (saved_model / name).exists():
            (folder / name).symlink_to((saved_model / name).resolve())
    return folder


def _split(gather: Any, nodes: Any) -> None:
    """Turns ResourceGather(handle, indices) into GatherV2(ReadVariableOp(handle), indices, 0)."""
    dtype, batch_dims = gather.attr["dtype"].type, gather.attr["batch_dims"].i
    indices = gather.attr["Tindices"].type
    control = [name for name in gather.input if name.startswith("^")]
    read = nodes.add(name=f"{gather.name}/read", op="ReadVariableOp", input=[gather.input[0], *control])
    read.attr["dtype"].type = dtype
    axis = nodes.add(name=f"{gather.name}/axis", op="Const")
    axis.attr["dtype"].type = tf.int32.as_datatype_enum
    axis.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(batch_dims, tf.int32))
    rows = gather.input[1]
    gather.op = "GatherV2"
    del gather.input[:]
    gather.input.extend([f"{read.name}:value:0", rows, f"{axis.name}:output:0", *control])
    gather.attr.clear()
    gather.attr["Tparams"].type = dtype
    gather.attr["Tindices"].type = indices
    gather.attr["Taxis"].type = tf.int32.as_datatype_enum
    gather.attr["batch_dims"].i = batch_dims
