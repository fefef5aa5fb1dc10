"""The canonical form of a functional model for inference: nested models opened up, batch norms folded away."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.models.functional.activations import activation_weights, split_activations
from optops.models.functional.calls import Call, Calls, calls_of, rebuild, with_training
from optops.models.functional.copies import give_weights, made_again, settings_of
from optops.models.functional.derived import derive_anew
from optops.models.functional.full_precision import (
    arguments_in_full_precision,
    in_full_precision,
    is_mixed,
    type_in_full_precision,
)
from optops.models.functional.separable import SeparateLayers
from optops.models.keras import keras

_L = keras.layers
OUTPUT_AXES: Mapping[type, tuple[str, int]] = {
    _L.Conv1D: ("kernel", -1),
    _L.Conv2D: ("kernel", -1),
    _L.Conv3D: ("kernel", -1),
    _L.Conv1DTranspose: ("kernel", -2),
    _L.Conv2DTranspose: ("kernel", -2),
    _L.Conv3DTranspose: ("kernel", -2),
    _L.SeparableConv1D: ("pointwise_kernel", -1),
    _L.SeparableConv2D: ("pointwise_kernel", -1),
    _L.DepthwiseConv1D: ("depthwise_kernel", -1),
    _L.DepthwiseConv2D: ("depthwise_kernel", -1),
    _L.Dense: ("kernel", -1),
}
"""Layers that a batch norm can be folded into: the weight that makes their outputs, and its axis of outputs."""
DEPTHWISE = (_L.DepthwiseConv1D, _L.DepthwiseConv2D)
NORMS = (_L.BatchNormalization,)
TRAINING_ONLY = (
    *(_L.Dropout, _L.SpatialDropout1D, _L.SpatialDropout2D, _L.SpatialDropout3D, _L.AlphaDropout),
    *(_L.GaussianDropout, _L.GaussianNoise, _L.ActivityRegularization),
)


def fold_batch_norms(model: Any) -> Any:
    """Returns a model that computes what `model` does at inference, with the batch norms that can be folded away.

    A batch norm is folded into the kernel and bias of the layer before it where that layer is linear and nothing else
    reads its outputs, and so is the next one after it; that holds for layers called several times too, if each of their
    calls is followed by the same batch norms. Nested models are opened up; their layers keep their names unless others
    have them. Layers that do nothing, or nothing but in training, are left out. The arithmetic is that of float64, the
    result float32. The canonical form of a canonical form is the same again: plans name its layers and tensors. An
    activation within a layer that int8 can run, other than a rectifier, becomes a layer of its own: runtimes convolve
    in int8 only what is rounded before it. A separable convolution becomes the two that it is. What computes in mixed
    precision computes in float32.

    Args:
        model: Functional or sequential; left as it is.

    Raises:
        TypeError: If the model is neither, or not built.
    """
    calls = calls_of(model)
    folds = _folds(calls)
    norms = {norm for chain in folds.values() for norm in chain}
    activations = split_activations(calls, _outputs(calls))
    mixed = any(is_mixed(layer) for layer in calls.names)
    copies: dict[Any, Any] = {}

    def call_layer(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if call.layer in norms or _is_identity(call):
            return args[0] if args else kwargs["inputs"]
        if call.training is not None:
            args, kwargs = with_training(call.layer, args, kwargs, call.training)
        if mixed:
            args, kwargs = arguments_in_full_precision((args, kwargs))
        if call.layer not in copies:
            changes = _changes_for_norm(call.layer) if call.layer in folds else {}
            changes |= {"activation": "linear"} if call.layer in activations else {}
            copies[call.layer] = _copy(call.layer, calls.names[call.layer], changes, calls.names.values())
        given = copies[call.layer](*args, **kwargs)
        return activations[call.layer](given) if call.layer in activations else given

    folded = rebuild(calls, call_layer)
    for layer, copy in copies.items():
        _set_weights(layer, copy, folds.get(layer, []))
    for layer, activation in activations.items():
        activation.set_weights([weight.numpy() for weight in activation_weights(layer)])
    derive_anew(folded)
    return folded


@dataclass(frozen=True)
class ScaleAndShift:
    """What a batch norm does at inference, for each channel, in float64."""

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    @classmethod
    def of(cls, norm: Any) -> "ScaleAndShift":
        """Reads a batch norm."""
        mean, variance = (np.asarray(v.numpy(), np.float64) for v in (norm.moving_mean, norm.moving_variance))
        scale = 1 / np.sqrt(variance + norm.epsilon)
        if norm.gamma is not None:
            scale = scale * norm.gamma.numpy()
        offset = norm.beta.numpy() if norm.beta is not None else 0.0
        return cls(scale, offset - mean * scale)


def _folds(calls: Calls) -> dict[Any, list[Any]]:
    """Returns which batch norms go into which layer, in the order in which they follow it."""
    readers, by_layer = calls.readers(), _by_layer(calls)

    def norm_after(last: Any, layer: Any) -> Any | None:
        followers = [_only_reader(call.outputs[0], calls, readers) for call in by_layer[last]]
        norm = followers[0].layer if followers[0] is not None else None
        if not _foldable(layer, norm) or {*followers} != {*by_layer[norm]}:
            return None
        return None if any(call.training for call in by_layer[norm]) else norm

    folds: dict[Any, list[Any]] = {}
    for layer in by_layer:
        chain = [layer]
        while (norm := norm_after(chain[-1], layer)) is not None:
            chain.append(norm)
        if chain[1:]:
            folds[layer] = chain[1:]
    return folds


def _by_layer(calls: Calls) -> dict[Any, list[Call]]:
    found: dict[Any, list[Call]] = {}
    for call in calls.calls:
        found.setdefault(call.layer, []).append(call)
    return found


def _only_reader(tensor: int, calls: Calls, readers: Mapping[int, list[Call]]) -> Call | None:
    """Returns the one call that takes a tensor, also through layers that are there for training only."""
    while tensor not in calls.outputs and len(readers.get(tensor, [])) == 1:
        (reader,) = readers[tensor]
        if not _is_identity(reader):
            return reader
        (tensor,) = reader.outputs
    return None


def _is_identity(call: Call) -> bool:
    if type(call.layer) is _L.Activation and call.layer.activation is keras.activations.linear:
        # What casts is left out where it does so for mixed precision alone.
        return bool(type_in_full_precision(call.node.keras_inputs[0]) == type_in_full_precision(call.node.outputs))
    return type(call.layer) in TRAINING_ONLY and not call.training


def _outputs(calls: Calls) -> set[int]:
    """Returns the numbers of what a model gives, and of what is that once layers that do nothing are left out."""
    found = set(calls.outputs)
    for call in reversed(calls.calls):
        if _is_identity(call) and not found.isdisjoint(call.outputs):
            found |= set(call.inputs)
    return found


def _foldable(layer: Any, norm: Any) -> bool:
    if type(layer) not in OUTPUT_AXES or type(norm) not in NORMS or layer.activation is not keras.activations.linear:
        return False
    # Not the layer's: it may have been called with inputs of several sizes.
    rank = norm.input_spec.ndim
    channels = 1 if getattr(layer, "data_format", "channels_last") == "channels_first" else rank - 1
    axes = norm.axis if isinstance(norm.axis, list | tuple) else [norm.axis]
    return [axis % rank for axis in axes] == [channels]


def _changes_for_norm(layer: Any) -> dict[str, Any]:
    # Constraints are on the weights without the norm.
    return {"use_bias": True, **{key: None for key in settings_of(layer) if key.endswith("_constraint")}}


def _copy(layer: Any, name: str, changes: Mapping[str, Any], used: Collection[str]) -> Any:
    config = {**in_full_precision(settings_of(layer)), "name": name, **changes}
    return SeparateLayers.of(config, used) if type(layer) is _L.SeparableConv2D else made_again(layer, config)


def _set_weights(layer: Any, copy: Any, norms: Sequence[Any]) -> None:
    if isinstance(copy, SeparateLayers):
        copy.depthwise.set_weights([layer.depthwise_kernel])
        _set_product(layer, copy.pointwise, "kernel", norms)
    elif not norms:
        # What an activation has of its own goes with it where it became a layer.
        give_weights(copy, layer, layer.get_weights()[: len(copy.weights)])
    else:
        name, _ = OUTPUT_AXES[type(layer)]
        for attribute in ("depthwise_kernel", "kernel", "pointwise_kernel"):
            if getattr(copy, attribute, None) is not None:
                getattr(copy, attribute).assign(getattr(layer, attribute))
        _set_product(layer, copy, name, norms)


def _set_product(layer: Any, copy: Any, attribute: str, norms: Sequence[Any]) -> None:
    """Sets the kernel that makes a layer's outputs, called `attribute` in its copy, and its bias, with its norms."""
    name, axis = OUTPUT_AXES[type(layer)]
    kernel = getattr(layer, name).numpy().astype(np.float64)
    bias = layer.bias.numpy().astype(np.float64) if layer.bias is not None else None
    for change in map(ScaleAndShift.of, norms):
        kernel = kernel * _along(change.scale, kernel, layer, axis)
        bias = change.shift if bias is None else bias * change.scale + change.shift
    getattr(copy, attribute).assign(kernel.astype(np.float32))
    if bias is not None:
        copy.bias.assign(bias.astype(np.float32))


def _along(scale: NDArray[np.float64], kernel: NDArray[np.float64], layer: Any, axis: int) -> NDArray[np.float64]:
    """Returns a scale of channels in a shape that multiplies the kernel."""
    if type(layer) in DEPTHWISE:
        return scale.reshape(kernel.shape[-2:])
    return scale if axis == -1 else scale[:, None]
