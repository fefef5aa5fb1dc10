"""What each kind of Keras layer does with channels: which weights hold them, which pass, which must stay.

A rule takes a call of a layer with the atoms of its inputs' last axes and gives those of its output's. What has no rule
is left whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from optops.compression.pruning.channels.atoms import Atoms, Ties
from optops.models.keras import keras, tf

LAYERS = keras.layers


@dataclass(frozen=True)
class Weight:
    """A weight with the channels along its axes.

    Attributes:
        variable: The tf.Variable.
        role: `kernel`, `bias`, `gamma`, `beta`, `statistic`, `slope` or `table`.
        axes: Axis to the atoms along it.
        produces: The axis along which new channels come out; None if it only follows its input.
    """

    variable: Any
    role: str
    axes: dict[int, Atoms]
    produces: int | None = None


@dataclass
class Trace:
    """What is known so far of a model's channels.

    Attributes:
        ties: Over all atoms.
        slots: By layer and name, the atoms that a layer's weights or its configuration hold: one set however often the
            layer is called.
        weights: By layer, those with channels along an axis; the others stay as they are.
        refused: By layer, why one of its calls needs all channels; so do its other calls, for they share its slots, and
            those of the layers within it.
    """

    ties: Ties = field(default_factory=Ties)
    slots: dict[tuple[Any, str], Atoms] = field(default_factory=dict)
    weights: dict[Any, list[Weight]] = field(default_factory=dict)
    refused: dict[Any, str] = field(default_factory=dict)

    def slot(self, layer: Any, name: str, count: int) -> Atoms:
        """Returns the atoms of one of a layer's slots, new ones at its first call."""
        if (layer, name) not in self.slots:
            self.slots[layer, name] = self.ties.new(count)
            if layer in self.refused:
                self.ties.fix(self.slots[layer, name], self.refused[layer])
        return self.slots[layer, name]

    def hold(self, layer: Any, *weights: Weight) -> None:
        """Notes a layer's weights, at its first call."""
        self.weights.setdefault(layer, [weight for weight in weights if weight.variable is not None])

    def refuse(self, layer: Any, reason: str) -> None:
        """Notes that a layer needs all channels, and so do the layers within it, in the calls before too."""
        within = dict.fromkeys(layer._flatten_layers(), reason)
        self.refused = within | self.refused
        for (holder, _), atoms in self.slots.items():
            if holder in within:
                self.ties.fix(atoms, reason)


class NoRuleError(Exception):
    """A call that no rule covers; says why."""


Rule = Callable[[Trace, Any, Sequence[Atoms], Any], Atoms]
"""Takes the trace, the layer, the atoms of its inputs, and the call's node; returns the output's atoms."""


def passes(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """Every channel of the output is made of its own channel of the one input alone."""
    _refuse_channels_first(layer)
    noise = getattr(layer, "noise_shape", None)
    if noise is not None and noise[-1] not in (None, 1):
        raise NoRuleError(f"its noise has the shape {tuple(noise)}, with a number for each channel")
    (only,) = inputs
    return only


def elementwise(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """Channel by channel; one of a single channel is spread over the others."""
    widest = max(inputs, key=len)
    for atoms in inputs:
        if len(atoms) == len(widest):
            trace.ties.tie(widest, atoms)
        else:
            trace.ties.fix(atoms, f"{layer.name} spreads it over {len(widest)} channels")
    return widest


def concatenate(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """Side by side along the channels, or along another axis."""
    return concatenate_along(layer.axis, trace, layer, inputs, node)


def concatenate_along(axis: int, trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """As `concatenate`, of a call that says the axis."""
    rank = node.outputs.shape.rank
    return np.concatenate(inputs) if axis % rank == rank - 1 else elementwise(trace, layer, inputs, node)


def convolution(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """A kernel [..., inputs / groups, outputs]; groups stay of equal size, so their channels go place by place."""
    into, out = _ends(trace, layer, inputs, layer.filters, node)
    groups, rank = layer.groups, layer.kernel.shape.rank
    each = len(into) // groups
    if groups > 1:
        for slot in (into, out):
            size = len(slot) // groups
            for start in range(size, len(slot), size):
                trace.ties.tie(slot[:size], slot[start : start + size])
    kernel = Weight(layer.kernel, "kernel", {rank - 2: into[:each], rank - 1: out}, rank - 1)
    trace.hold(layer, kernel, Weight(layer.bias, "bias", {0: out}))
    return out


def transposed_convolution(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """A kernel [..., outputs, inputs]."""
    into, out = _ends(trace, layer, inputs, layer.filters, node)
    rank = layer.kernel.shape.rank
    kernel = Weight(layer.kernel, "kernel", {rank - 1: into, rank - 2: out}, rank - 2)
    trace.hold(layer, kernel, Weight(layer.bias, "bias", {0: out}))
    return out


def depthwise_convolution(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """A kernel [..., inputs, multiplier]: each channel makes `multiplier` of its own."""
    into, out = _ends(trace, layer, inputs, len(inputs[0]) * layer.depth_multiplier, node)
    trace.ties.tie(np.repeat(into, layer.depth_multiplier), out)
    rank = layer.depthwise_kernel.shape.rank
    kernel = Weight(layer.depthwise_kernel, "kernel", {rank - 2: into})
    trace.hold(layer, kernel, Weight(layer.bias, "bias", {0: out}))
    return out


def separable_convolution(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """A depthwise convolution, then a product over its channels."""
    into, out = _ends(trace, layer, inputs, layer.filters, node)
    middle = np.repeat(into, layer.depth_multiplier)
    rank = layer.depthwise_kernel.shape.rank
    depthwise = Weight(layer.depthwise_kernel, "kernel", {rank - 2: into})
    pointwise = Weight(layer.pointwise_kernel, "kernel", {rank - 2: middle, rank - 1: out}, rank - 1)
    trace.hold(layer, depthwise, pointwise, Weight(layer.bias, "bias", {0: out}))
    return out


def dense(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """A kernel [inputs, outputs]."""
    into, out = _ends(trace, layer, inputs, layer.units, node)
    trace.hold(layer, Weight(layer.kernel, "kernel", {0: into, 1: out}, 1), Weight(layer.bias, "bias", {0: out}))
    return out


def embedding(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """A table [rows, outputs]; what comes in are row numbers."""
    out = trace.slot(layer, "out", layer.output_dim)
    trace.hold(layer, Weight(layer.embeddings, "table", {1: out}, 1))
    return out


def batch_normalization(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """Four vectors along the channels, and three more if it renormalises."""
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    rank = node.outputs.shape.rank
    if axis % rank != rank - 1:
        raise NoRuleError("it normalises another axis than the last")
    into = trace.slot(layer, "in", len(inputs[0]))
    trace.ties.tie(inputs[0], into)
    renorm = ("moving_stddev", "renorm_mean", "renorm_stddev") if layer.renorm else ()
    roles = {"gamma": "gamma", "beta": "beta"}
    roles |= dict.fromkeys(("moving_mean", "moving_variance", *renorm), "statistic")
    trace.hold(layer, *(Weight(getattr(layer, name), role, {0: into}) for name, role in roles.items()))
    return into


def parametric_relu(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """A slope for each channel, unless they share one."""
    # Axes are counted with that of the examples, which the slopes have not.
    last = node.outputs.shape.rank - 1
    if last in (layer.shared_axes or ()):
        return inputs[0]
    into = trace.slot(layer, "in", len(inputs[0]))
    trace.ties.tie(inputs[0], into)
    trace.hold(layer, Weight(layer.alpha, "slope", {last - 1: into}))
    return into


def flatten(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """All places one after the other, the channels of each side by side."""
    _refuse_channels_first(layer)
    places = node.input_tensors.shape[1:-1]
    if None in places:
        raise NoRuleError("it flattens a size that is not known")
    return np.tile(inputs[0], prod(places))


def reshape(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """Into other places with the same channels, or with several places side by side as channels."""
    (atoms,) = inputs
    last = node.outputs.shape[-1]
    if last is None or last % len(atoms):
        raise NoRuleError(f"it makes {last} channels out of {len(atoms)}")
    found = np.tile(atoms, last // len(atoms))
    # Without a number in its settings it gives as many as there are, in each of its calls.
    if layer.target_shape[-1] != -1:
        trace.ties.tie(found, trace.slot(layer, "shape", last))
    return found


def activation(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """One value at a time; a softmax mixes all channels."""
    if not _is_one_by_one(layer.activation, node.outputs):
        raise NoRuleError("it mixes all channels, or treats each its own way")
    return passes(trace, layer, inputs, node)


def softmax(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """Over another axis than the channels it is one of theirs each."""
    rank, axes = node.outputs.shape.rank, layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    if any(axis % rank == rank - 1 for axis in axes):
        raise NoRuleError("it mixes all channels")
    return passes(trace, layer, inputs, node)


def normalization_over_channels(trace: Trace, layer: Any, inputs: Sequence[Atoms], node: Any) -> Atoms:
    """Mean and variance are those of all channels together, and would be others without some."""
    raise NoRuleError("it normalises all channels together")


def _ends(trace: Trace, layer: Any, inputs: Sequence[Atoms], outputs: int, node: Any) -> tuple[Atoms, Atoms]:
    _refuse_channels_first(layer)
    (only,) = inputs
    into = trace.slot(layer, "in", len(only))
    trace.ties.tie(only, into)
    out = trace.slot(layer, "out", outputs)
    function = getattr(layer, "activation", None)
    if function is not None and not _is_one_by_one(function, node.outputs):
        trace.ties.fix(out, f"the activation of {layer.name} mixes all channels, or treats each its own way")
    return into, out


def _refuse_channels_first(layer: Any) -> None:
    if getattr(layer, "data_format", None) == "channels_first":
        raise NoRuleError("its channels are not the last axis")


def _is_one_by_one(function: Any, like: Any) -> bool:
    """Returns whether a function makes each channel of that channel alone, and of all of them the same.

    It is tried out, for it may be anybody's: what it makes of some channels in another order is what it made of them
    among all. A layer with a weight for each channel does not take some of them.

    Args:
        function: From a tensor to one of its shape.
        like: A tensor of the rank, type and channels that it takes.
    """
    values = tf.cast(tf.random.stateless_normal([*[2] * (like.shape.rank - 1), like.shape[-1]], [1, 2]), like.dtype)
    some = tf.range(like.shape[-1] - 1, -1, -2)
    try:
        among, alone = (
            tf.cast(made, tf.float32).numpy()
            for made in (tf.gather(function(values), some, axis=-1), function(tf.gather(values, some, axis=-1)))
        )
    except (TypeError, ValueError, tf.errors.OpError):
        return False
    return among.shape == alone.shape and np.allclose(among, alone, rtol=0.02, atol=1e-6)


RULES: dict[type, Rule] = {
    **dict.fromkeys((LAYERS.Conv1D, LAYERS.Conv2D, LAYERS.Conv3D), convolution),
    **dict.fromkeys((LAYERS.Conv1DTranspose, LAYERS.Conv2DTranspose, LAYERS.Conv3DTranspose), transposed_convolution),
    **dict.fromkeys((LAYERS.DepthwiseConv1D, LAYERS.DepthwiseConv2D), depthwise_convolution),
    **dict.fromkeys((LAYERS.SeparableConv1D, LAYERS.SeparableConv2D), separable_convolution),
    LAYERS.Dense: dense,
    LAYERS.Embedding: embedding,
    LAYERS.BatchNormalization: batch_normalization,
    **dict.fromkeys((LAYERS.LayerNormalization, LAYERS.GroupNormalization), normalization_over_channels),
    LAYERS.PReLU: parametric_relu,
    LAYERS.Flatten: flatten,
    LAYERS.Reshape: reshape,
    LAYERS.Activation: activation,
    LAYERS.Concatenate: concatenate,
    LAYERS.Softmax: softmax,
    **dict.fromkeys(
        (LAYERS.Add, LAYERS.Subtract, LAYERS.Multiply, LAYERS.Average, LAYERS.Maximum, LAYERS.Minimum), elementwise
    ),
    **dict.fromkeys(
        (
            *(LAYERS.ReLU, LAYERS.LeakyReLU, LAYERS.ELU, LAYERS.ThresholdedReLU),
            *(LAYERS.Dropout, LAYERS.SpatialDropout1D, LAYERS.SpatialDropout2D, LAYERS.SpatialDropout3D),
            *(LAYERS.GaussianNoise, LAYERS.GaussianDropout, LAYERS.AlphaDropout),
            *(LAYERS.ZeroPadding1D, LAYERS.ZeroPadding2D, LAYERS.ZeroPadding3D),
            *(LAYERS.Cropping1D, LAYERS.Cropping2D, LAYERS.Cropping3D),
            *(LAYERS.UpSampling1D, LAYERS.UpSampling2D, LAYERS.UpSampling3D, LAYERS.Resizing),
            *(LAYERS.MaxPooling1D, LAYERS.MaxPooling2D, LAYERS.MaxPooling3D),
            *(LAYERS.AveragePooling1D, LAYERS.AveragePooling2D, LAYERS.AveragePooling3D),
            *(LAYERS.GlobalMaxPooling1D, LAYERS.GlobalMaxPooling2D, LAYERS.GlobalMaxPooling3D),
            *(LAYERS.GlobalAveragePooling1D, LAYERS.GlobalAveragePooling2D, LAYERS.GlobalAveragePooling3D),
        ),
        passes,
    ),
}
"""By exact type: a subclass may do anything."""
MAKE_CHANNELS: tuple[Rule, ...] = (convolution, transposed_convolution, separable_convolution, dense, embedding)
"""Rules of the layers whose weights make new channels."""
