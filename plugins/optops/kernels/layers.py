"""The weights of layers, and how the library takes them: their sizes, and their arrays one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optops.kernels.arrays import ACTIVATIONS, PRECISIONS, Activation, Floats, Precision, checked, contiguous
from optops.kernels.library import DecoderConfig, EncoderConfig, Int

Norm = tuple[Floats, Floats]
"""Scale and offset of a layer normalisation, [width] each."""
Product = tuple[Floats, Floats]
"""Kernel [inputs, outputs] and bias [outputs]."""


@dataclass(frozen=True)
class EncoderLayerWeights:
    """The weights of one layer; all float32 and finite.

    Attributes:
        heads: Of the attention.
        attention_norm: Scale and offset, [width] each, of the norm before attention (or after it).
        query_key_value: Side by side, [width, 3 * heads * head_size], and their bias.
        output: Of the attention, [heads * head_size, width], and its bias.
        feed_forward_norm: Scale and offset of the norm before the hidden units (or after them).
        expand: [width, units], and its bias.
        contract: [units, width], and its bias.
        precisions: Of the four products, in this order; None: the encoder's for all.
    """

    heads: int
    attention_norm: Norm
    query_key_value: Product
    output: Product
    feed_forward_norm: Norm
    expand: Product
    contract: Product
    precisions: tuple[Precision, ...] | None = None


@dataclass(frozen=True)
class DecoderLayerWeights:
    """The weights of one layer; all float32 and finite.

    Attributes:
        self_heads: Of the attention over what has been written.
        cross_heads: Of the attention over the source.
        self_norm: Scale and offset, [width] each, of the norm before (or after) the attention over what is written.
        query_key_value: Side by side, [width, 3 * self_heads * head_size], and their bias.
        self_output: [self_heads * head_size, width], and its bias.
        cross_norm: Of the norm before (or after) the attention over the source.
        cross_query: [width, cross_heads * head_size], and its bias.
        cross_key_value: Side by side, [width, 2 * cross_heads * head_size], and their bias; of the encoder's output.
        cross_output: [cross_heads * head_size, width], and its bias.
        feed_forward_norm: Of the norm before (or after) the hidden units.
        expand: [width, units], and its bias.
        contract: [units, width], and its bias.
        precisions: Of the seven products, in this order; None: the decoder's for all.
    """

    self_heads: int
    cross_heads: int
    self_norm: Norm
    query_key_value: Product
    self_output: Product
    cross_norm: Norm
    cross_query: Product
    cross_key_value: Product
    cross_output: Product
    feed_forward_norm: Norm
    expand: Product
    contract: Product
    precisions: tuple[Precision, ...] | None = None


@dataclass(frozen=True)
class Stack:
    """Layers as the library takes them: their sizes, and their arrays one after the other."""

    config: Any
    arrays: list[Floats]


def encoder_stack(
    layers: Sequence[EncoderLayerWeights],
    *,
    head_size: int,
    last_norm: Norm | None,
    activation: Activation,
    epsilon: float,
    precision: Precision,
) -> Stack:
    """Returns the layers of an encoder for the library; the arguments are those of `PackedEncoder`.

    Raises:
        ValueError: If shapes do not fit.
    """
    if not layers:
        raise ValueError("an encoder needs at least one layer")
    width = len(layers[0].attention_norm[0])
    arrays: list[Floats] = []
    precisions: list[int] = []
    for layer in layers:
        inner, units = layer.heads * head_size, layer.expand[0].shape[-1]
        arrays += [
            *norm_arrays("attention_norm", layer.attention_norm, width),
            *product_arrays("query_key_value", layer.query_key_value, width, 3 * inner),
            *product_arrays("output", layer.output, inner, width),
            *norm_arrays("feed_forward_norm", layer.feed_forward_norm, width),
            *product_arrays("expand", layer.expand, width, units),
            *product_arrays("contract", layer.contract, units, width),
        ]
        precisions += precision_codes(layer.precisions or (precision,) * 4, 4)
    counts = Int * len(layers)
    config = EncoderConfig(
        width=width,
        head_size=head_size,
        layers=len(layers),
        heads=counts(*(layer.heads for layer in layers)),
        feed_forward=counts(*(layer.expand[0].shape[1] for layer in layers)),
        norm_first=int(last_norm is not None),
        epsilon=epsilon,
        activation=checked("activation", activation, ACTIVATIONS),
        precision=checked("precision", precision, PRECISIONS),
        precisions=(Int * len(precisions))(*precisions),
    )
    return Stack(config, arrays + (norm_arrays("last_norm", last_norm, width) if last_norm else []))


def decoder_stack(
    layers: Sequence[DecoderLayerWeights],
    *,
    head_size: int,
    last_norm: Norm | None,
    projection: Product,
    activation: Activation,
    epsilon: float,
    precision: Precision,
    projection_precision: Precision,
) -> Stack:
    """Returns the layers of a decoder and its projection for the library; see `PackedTranslator`.

    Raises:
        ValueError: If shapes do not fit.
    """
    if not layers:
        raise ValueError("a decoder needs at least one layer")
    width, outputs = len(layers[0].self_norm[0]), projection[0].shape[-1]
    arrays: list[Floats] = []
    precisions: list[int] = []
    for layer in layers:
        own, cross, units = layer.self_heads * head_size, layer.cross_heads * head_size, layer.expand[0].shape[-1]
        arrays += [
            *norm_arrays("self_norm", layer.self_norm, width),
            *product_arrays("query_key_value", layer.query_key_value, width, 3 * own),
            *product_arrays("self_output", layer.self_output, own, width),
            *norm_arrays("cross_norm", layer.cross_norm, width),
            *product_arrays("cross_query", layer.cross_query, width, cross),
            *product_arrays("cross_key_value", layer.cross_key_value, width, 2 * cross),
            *product_arrays("cross_output", layer.cross_output, cross, width),
            *norm_arrays("feed_forward_norm", layer.feed_forward_norm, width),
            *product_arrays("expand", layer.expand, width, units),
            *product_arrays("contract", layer.contract, units, width),
        ]
        precisions += precision_codes(layer.precisions or (precision,) * 7, 7)
    precisions.append(checked("precision", projection_precision, PRECISIONS))
    arrays += norm_arrays("decoder_norm", last_norm, width) if last_norm else []
    arrays += product_arrays("projection", projection, width, outputs)
    counts = Int * len(layers)
    config = DecoderConfig(
        width=width,
        head_size=head_size,
        layers=len(layers),
        self_heads=counts(*(layer.self_heads for layer in layers)),
        cross_heads=counts(*(layer.cross_heads for layer in layers)),
        feed_forward=counts(*(layer.expand[0].shape[1] for layer in layers)),
        norm_first=int(last_norm is not None),
        epsilon=epsilon,
        activation=checked("activation", activation, ACTIVATIONS),
        outputs=outputs,
        precision=checked("precision", precision, PRECISIONS),
        precisions=(Int * len(precisions))(*precisions),
    )
    return Stack(config, arrays)


def precision_codes(precisions: Sequence[Precision], count: int) -> list[int]:
    """Returns the library's numbers for the precisions of a layer's products.

    Raises:
        ValueError: If there are too few or too many, or one is unknown.
    """
    if len(precisions) != count:
        raise ValueError(f"a layer has precisions {', '.join(precisions)}; it has {count} products")
    return [checked("precision", precision, PRECISIONS) for precision in precisions]


def norm_arrays(name: str, pair: Norm, width: int) -> list[Floats]:
    """Returns scale and offset as the library reads them, after a look at their shapes."""
    return _fitting(name, pair, ((width,), (width,)))


def product_arrays(name: str, pair: Product, inputs: int, outputs: int) -> list[Floats]:
    """Returns kernel and bias as the library reads them, after a look at their shapes."""
    return _fitting(name, pair, ((inputs, outputs), (outputs,)))


def _fitting(name: str, pair: tuple[Floats, Floats], shapes: tuple[tuple[int, ...], ...]) -> list[Floats]:
    for array, shape in zip(pair, shapes, strict=True):
        if array.shape != shape:
            raise ValueError(f"{name} has an array of shape {array.shape}; {shape} is wanted")
    return [contiguous(array) for array in pair]
