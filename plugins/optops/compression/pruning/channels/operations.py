"""What TensorFlow's own functions do with channels where a functional model calls them: rules as in layers.py."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from optops.compression.pruning.channels.atoms import Atoms
from optops.compression.pruning.channels.layers import NoRuleError, Rule, Trace, concatenate_along, elementwise
from optops.models.keras import tf

SAME_FOR_ALL = (bool, int, float, str, tf.DType, type(None))
ONE_BY_ONE = (
    "__operators__.add cast clip_by_value identity math.abs math.add math.divide math.exp math.maximum math.minimum "
    "math.multiply math.negative math.rsqrt math.sigmoid math.softplus math.sqrt math.square math.subtract math.tanh "
    "math.truediv nn.elu nn.gelu nn.leaky_relu nn.relu nn.relu6 nn.selu nn.silu nn.softplus"
)


def one_by_one(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """Channel by channel, with numbers that are the same for all channels."""
    _refuse_arrays(node)
    return elementwise(trace, layer, inputs, node)


def concat(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """`tf.concat`, its axis by place or by name."""
    axis = node.call_kwargs.get("axis", node.call_args[1] if len(node.call_args) > 1 else None)
    if not isinstance(axis, int):
        raise NoRuleError("its axis is not a number")
    return concatenate_along(axis, trace, layer, inputs, node)


def depth_to_space(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """Channel k of the output comes from the channels k, k + outputs, k + 2 outputs, ...: they go together."""
    (atoms,) = inputs
    if node.call_kwargs.get("data_format", "NHWC") != "NHWC":
        raise NoRuleError("its channels are not the last axis")
    outputs = node.outputs.shape[-1]
    blocks = atoms.reshape(-1, outputs)
    for block in blocks[1:]:
        trace.ties.tie(blocks[0], block)
    return np.array(blocks[0])


def _refuse_arrays(node: Any) -> None:
    tensors = {id(tensor) for tensor in node.keras_inputs}
    for value in (*node.call_args, *node.call_kwargs.values()):
        if id(value) not in tensors and not isinstance(value, SAME_FOR_ALL) and not _is_one_number(value):
            raise NoRuleError(f"it takes a {type(value).__name__}, which may have a number for each channel")


def _is_one_number(value: Any) -> bool:
    # `1.0 - tensor` is recorded with a tensor for the number.
    return isinstance(value, np.ndarray | np.generic | tf.Tensor) and np.size(value) == 1


OPERATIONS: dict[str, Rule] = {
    **dict.fromkeys(ONE_BY_ONE.split(), one_by_one),
    "concat": concat,
    "nn.depth_to_space": depth_to_space,
}
"""By the name that TensorFlow exports the function under."""
