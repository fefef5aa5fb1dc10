"""What TensorFlow's own functions do with channels where a functional model calls them: rules as in layers.py."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from optops.compression.pruning.channels.atoms import Atoms
from optops.compression.pruning.channels.layers import NoRuleError, Rule, Trace, concatenate, elementwise

ONE_BY_ONE = frozenset(
    {
        *("__operators__.add", "math.add", "math.subtract", "math.multiply", "math.divide", "math.truediv"),
        *(
            "math.maximum",
            "math.minimum",
            "math.square",
            "math.sqrt",
            "math.rsqrt",
            "math.exp",
            "math.abs",
            "math.negative",
        ),
        *("math.sigmoid", "math.tanh", "math.softplus", "clip_by_value", "cast", "identity"),
        *("nn.relu", "nn.relu6", "nn.leaky_relu", "nn.elu", "nn.selu", "nn.silu", "nn.gelu", "nn.softplus"),
    }
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

    class At:
        name = layer.name

    At.axis = axis  # type: ignore[attr-defined]
    return concatenate(trace, At, inputs, node)


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
    numbers = [*node.call_args, *node.call_kwargs.values()]
    for value in numbers:
        if isinstance(value, np.ndarray | list | tuple) and np.ndim(value) and not hasattr(value, "shape"):
            raise NoRuleError("it takes a list of numbers, which may be one for each channel")
        if isinstance(value, np.ndarray) and value.size > 1:
            raise NoRuleError("it takes an array, which may have a number for each channel")


OPERATIONS: dict[str, Rule] = {
    **dict.fromkeys(ONE_BY_ONE, one_by_one),
    "concat": concat,
    "nn.depth_to_space": depth_to_space,
}
"""By the name that TensorFlow exports the function under."""
