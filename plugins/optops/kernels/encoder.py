"""A whole Transformer encoder in one call, on NumPy arrays."""

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from optops.kernels.arrays import ACTIVATIONS, PRECISIONS, Activation, Floats, Precision, address, checked, contiguous
from optops.kernels.library import EncoderConfig, Int, Pointer, call, library

if TYPE_CHECKING:
    from optops.models.transformer.model import Transformer


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
    """

    heads: int
    attention_norm: tuple[Floats, Floats]
    query_key_value: tuple[Floats, Floats]
    output: tuple[Floats, Floats]
    feed_forward_norm: tuple[Floats, Floats]
    expand: tuple[Floats, Floats]
    contract: tuple[Floats, Floats]


class PackedEncoder:
    """A Transformer encoder whose layers run in one call, over sentences without their padding.

    A sentence's result is the same to the last bit for any number of threads, any other sentences beside it, and any
    padding.

    Args:
        layers: One or more; layers that share their weights, as ALBERT's do, may be given several times.
        head_size: Of every head; queries are divided by its square root.
        last_norm: Scale and offset of the norm after the last layer. With it the encoder is pre-norm: a norm before
            each block. Without it each norm follows its block's residual sum, as in BERT.
        activation: Of the hidden units.
        epsilon: Of the norms.
        precision: Of the products: `fp32`, `bf16` or `int8`; attention, softmax and norms are fp32.

    Raises:
        ValueError: If shapes do not fit, or a value is not finite.
        KernelsUnavailableError: If the compiled operators are not installed.
    """

    def __init__(
        self,
        layers: Sequence[EncoderLayerWeights],
        *,
        head_size: int,
        last_norm: tuple[Floats, Floats] | None = None,
        activation: Activation = "relu",
        epsilon: float = 1e-6,
        precision: Precision = "fp32",
    ) -> None:
        if not layers:
            raise ValueError("an encoder needs at least one layer")
        self.width = len(layers[0].attention_norm[0])
        self._library = library()
        arrays = [array for layer in layers for array in self._arrays_of(layer, head_size)]
        arrays += self._norm("last_norm", last_norm) if last_norm else []
        counts = Int * len(layers)
        config = EncoderConfig(
            width=self.width,
            head_size=head_size,
            layers=len(layers),
            heads=counts(*(layer.heads for layer in layers)),
            feed_forward=counts(*(layer.expand[0].shape[1] for layer in layers)),
            norm_first=int(last_norm is not None),
            epsilon=epsilon,
            activation=checked("activation", activation, ACTIVATIONS),
            precision=checked("precision", precision, PRECISIONS),
        )
        pointers = (Pointer * len(arrays))(*(array.ctypes.data for array in arrays))
        self._handle = call(self._library.optops_encoder_pack, ctypes.byref(config), pointers, len(arrays))
        weakref.finalize(self, self._library.optops_encoder_free, self._handle)

    @classmethod
    def from_keras(cls, model: "Transformer", precision: Precision = "fp32") -> "PackedEncoder":
        """Returns the encoder of a `Transformer`; it takes what `model.embed` gives."""
        arrays = {
            weight.name.removeprefix("transformer/").removesuffix(":0"): weight.numpy() for weight in model.weights
        }

        def pair(name: str, first: str = "kernel", second: str = "bias") -> tuple[Floats, Floats]:
            return arrays[f"{name}/{first}"], arrays[f"{name}/{second}"]

        def joined(name: str) -> tuple[Floats, Floats]:
            parts = [pair(f"{name}/{part}") for part in ("query", "key", "value")]
            kernels, biases = zip(*parts, strict=True)
            return np.concatenate(kernels, axis=1), np.concatenate(biases)

        layers = [
            EncoderLayerWeights(
                heads=size.heads,
                attention_norm=pair(f"encoder_{index}/self_attention_norm", "gamma", "beta"),
                query_key_value=joined(f"encoder_{index}/self_attention"),
                output=pair(f"encoder_{index}/self_attention/output"),
                feed_forward_norm=pair(f"encoder_{index}/feed_forward_norm", "gamma", "beta"),
                expand=pair(f"encoder_{index}/feed_forward/expand"),
                contract=pair(f"encoder_{index}/feed_forward/contract"),
            )
            for index, size in enumerate(model.config.encoder)
        ]
        last_norm = pair("encoder_norm", "gamma", "beta")
        return cls(layers, head_size=model.config.head_size, last_norm=last_norm, precision=precision)

    def __call__(self, x: Floats, lengths: NDArray[np.integer] | Sequence[int], *, threads: int = 0) -> Floats:
        """Returns float32 [sentences, time, width]; zero at padding.

        Args:
            x: float32 [sentences, time, width], embedded; what stands at padding does not matter.
            lengths: Tokens of each sentence, [sentences], each from 1 to `time`.
            threads: 0 means OPTOPS_THREADS, or all processors that the process may run on.

        Raises:
            ValueError: If a shape or a length does not fit.
        """
        if x.ndim != 3 or x.shape[2] != self.width:
            raise ValueError(f"x has shape {x.shape}; it must be [sentences, time, {self.width}]")
        counts = np.asarray(lengths, np.int64)
        if counts.shape != x.shape[:1]:
            raise ValueError(f"lengths have shape {counts.shape}; for x {x.shape} it is {x.shape[:1]}")
        if counts.size and not (counts.min() >= 1 and counts.max() <= x.shape[1]):
            raise ValueError(f"lengths are {counts.min()} to {counts.max()}; each must be 1 to {x.shape[1]}")
        there = np.arange(x.shape[1]) < counts[:, None]
        tokens = contiguous(x[there])
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        call(
            self._library.optops_encoder_run,
            self._handle,
            address(tokens),
            address(starts),
            len(counts),
            address(tokens),
            threads,
        )
        y = np.zeros(x.shape, np.float32)
        y[there] = tokens
        return y

    def _arrays_of(self, layer: EncoderLayerWeights, head_size: int) -> list[Floats]:
        inner, units = layer.heads * head_size, layer.expand[0].shape[-1]
        return [
            *self._norm("attention_norm", layer.attention_norm),
            *_product("query_key_value", layer.query_key_value, self.width, 3 * inner),
            *_product("output", layer.output, inner, self.width),
            *self._norm("feed_forward_norm", layer.feed_forward_norm),
            *_product("expand", layer.expand, self.width, units),
            *_product("contract", layer.contract, units, self.width),
        ]

    def _norm(self, name: str, pair: tuple[Floats, Floats]) -> list[Floats]:
        return _fitting(name, pair, ((self.width,), (self.width,)))


def _product(name: str, pair: tuple[Floats, Floats], inputs: int, outputs: int) -> list[Floats]:
    return _fitting(name, pair, ((inputs, outputs), (outputs,)))


def _fitting(name: str, pair: tuple[Floats, Floats], shapes: tuple[tuple[int, ...], ...]) -> list[Floats]:
    for array, shape in zip(pair, shapes, strict=True):
        if array.shape != shape:
            raise ValueError(f"{name} has an array of shape {array.shape}; {shape} is wanted")
    return [contiguous(array) for array in pair]
