"""What TensorFlow's own functions do with channels where a functional model calls them: rules as in layers.py."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from optops.compression.pruning.channels.atoms import Atoms
from optops.compression.pruning.channels.layers import NoRuleError, Rule, Trace, concatenate_along, elementwise

ONE_BY_ONE = (
    "__operators__.add cast clip_by_value identity math.abs math.add math.divide math.exp math.maximum math.minimum "
    "math.multiply math.negative math.rsqrt math.sigmoid math.softplus math.sqrt math.square math.subtract math.tanh "
    "math.truediv nn.elu nn.gelu nn.leaky_relu nn.relu nn.relu6 nn.selu nn.silu nn.softplus"
)


def concat(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """`tf.concat`, its axis by place or by name."""
    axis = _argument(node, "axis", 1, None)
    if not isinstance(axis, int):
        raise NoRuleError("its axis is not a number")
    return concatenate_along(axis, trace, layer, inputs, node)


def depth_to_space(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """Channel k of the output comes from the channels k, k + outputs, k + 2 outputs, ...: they go together."""
    (atoms,) = inputs
    if _argument(node, "data_format", 2, "NHWC") != "NHWC":
        raise NoRuleError("its channels are not the last axis")
    outputs = node.outputs.shape[-1]
    blocks = atoms.reshape(-1, outputs)
    for block in blocks[1:]:
        trace.ties.tie(blocks[0], block)
    return np.array(blocks[0])


def _argument(node: Any, name: str, place: int, default: Any) -> Any:
    """Returns what a call is given by name or by place."""
    return node.call_kwargs.get(name, node.call_args[place] if len(node.call_args) > place else default)


OPERATIONS: dict[str, Rule] = {
    **dict.fromkeys(ONE_BY_ONE.split(), elementwise),
    "concat": concat,
    "nn.depth_to_space": depth_to_space,
}
"""By the name that TensorFlow exports the function under."""
