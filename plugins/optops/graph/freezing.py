"""Makes constants of a SavedModel's variables, also where loops look rows of them up."""

import tempfile
from pathlib import Path
from typing import Any

from optops.models.keras import tf

SIGNATURE = "serving_default"


def freeze(saved_model: Path) -> Any:
    """Returns the signature `serving_default` as a concrete function without variables; its loops stay functions.

    TensorFlow's own conversion leaves ResourceGather (an embedding's lookup) alone within a function, so a loop that
    embeds what it wrote would be left with a resource that is no longer there. Read and gather as two operations are
    converted everywhere.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    with tempfile.TemporaryDirectory(prefix="optops-freeze-") as folder:
        loaded = tf.saved_model.load(str(_with_plain_gathers(saved_model, Path(folder))))
        # Loops lowered to frames can neither be called from another function nor be converted to ONNX.
        frozen = convert_variables_to_constants_v2(loaded.signatures[SIGNATURE], lower_control_flow=False)
    frozen.keep_alive = loaded  # the lookup tables that it still uses
    return frozen


def _with_plain_gathers(saved_model: Path, folder: Path) -> Path:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    proto = SavedModel.FromString((saved_model / "saved_model.pb").read_bytes())
    for meta_graph in proto.meta_graphs:
        for function in meta_graph.graph_def.library.function:
            for node in list(function.node_def):
                if node.op == "ResourceGather":
                    _split(node, function.node_def)
    (folder / "saved_model.pb").write_bytes(proto.SerializeToString())
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
