"""A folded functional model, its tensors by name, and how it is run call by call in bounded memory."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optops.models.functional.calls import Call, Calls, arguments_of, calls_of, with_training
from optops.models.functional.folding import DEPTHWISE, OUTPUT_AXES, fold_batch_norms
from optops.models.functional.tensors import QUANTIZABLE, named_tensors
from optops.models.keras import keras, tf

ELEMENTS = 1 << 18
"""Input elements that are run at a time; an example that has more is run alone."""
EXAMPLES = 16
"""Most examples that are run at a time, so that small ones make several pieces, of which some are held out."""
READ_ONCE = "calibration gave no batches when it was read again; return a new iterator each time"

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Network:
    """A model in canonical form, followed call by call.

    Attributes:
        model: As `fold_batch_norms` returns it.
        calls: Of that model.
        output_names: Of the model that it was made of.
    """

    model: Any
    calls: Calls
    output_names: tuple[str, ...]

    @classmethod
    def of(cls, model: Any) -> "Network":
        """Folds the batch norms of a functional or sequential model, which is left as it is.

        Raises:
            TypeError: If the model is neither, or not built.
        """
        folded = fold_batch_norms(model)
        return cls(folded, calls_of(folded), tuple(model.output_names))

    @cached_property
    def names(self) -> dict[int, str]:
        """Number of a tensor to its name."""
        named = {id(tensor): name for name, tensor in named_tensors(self.model).items()}
        found = dict(zip(self.calls.inputs, self.model.input_names, strict=True))
        for call in self.calls.calls:
            for number, tensor in zip(call.outputs, tf.nest.flatten(call.node.outputs), strict=True):
                found[number] = named[id(tensor)]
        return found

    @cached_property
    def floats(self) -> frozenset[str]:
        """Names of the tensors that hold numbers in float32."""
        return frozenset(name for name, tensor in named_tensors(self.model).items() if tensor.dtype == tf.float32)

    @cached_property
    def quantizable(self) -> dict[str, Any]:
        """Name of each layer that int8 can run to the layer, in the order of computation."""
        found = {}
        for call in self.calls.calls:
            if type(call.layer) in QUANTIZABLE and self.names[call.inputs[0]] in self.floats:
                found[call.layer.name] = call.layer
        return found

    @property
    def why_none(self) -> str:
        """Says why int8 can run no layer; empty if it can run one."""
        if self.quantizable:
            return ""
        other = {
            call.layer.name: call.node.keras_inputs[0].dtype.name
            for call in self.calls.calls
            if type(call.layer) in QUANTIZABLE
        }
        if other:
            taken = ", ".join(f"{name} takes {dtype}" for name, dtype in other.items())
            return f"no layer can run in int8: {taken}, and int8 stands for float32; build the model in float32"
        kinds = ", ".join(kind.__name__ for kind in QUANTIZABLE)
        return f"no layer can run in int8: that is for {kinds}, and none of the model's layers is one"

    def with_output_names(self, model: Any) -> Any:
        """Returns a form of the network whose outputs are called as those of the model that it was made of.

        Folding takes away layers that outputs were named after, and what judges a model may ask for outputs by name.
        """
        inner = {layer.name for layer in model.layers} - set(model.output_names)
        if tuple(model.output_names) == self.output_names or inner.intersection(self.output_names):
            return model
        tensors = zip(model.outputs, model.output_names, self.output_names, strict=True)
        named = [
            tensor if have == wanted else keras.layers.Activation("linear", name=wanted, dtype=tensor.dtype)(tensor)
            for tensor, have, wanted in tensors
        ]
        return keras.Model(
            model._nested_inputs, tf.nest.pack_sequence_as(model._nested_outputs, named), name=model.name
        )

    def run(
        self,
        inputs: Arrays,
        call_layer: Callable[[Call, tuple[Any, ...], dict[str, Any]], Any],
        read: Callable[[int, Any], Any] = lambda number, value: value,
    ) -> list[Any]:
        """Runs the model for inference and returns its outputs; a tensor is let go once its last reader has had it.

        Args:
            inputs: By the model's input names.
            call_layer: Called with each call and its arguments; returns what it gives.
            read: Called with a tensor's number and value; returns what the calls that take it are given instead.
        """
        left = {number: len(readers) for number, readers in self.calls.readers().items()}
        for number in self.calls.outputs:
            left[number] = left.get(number, 0) + 1
        values = {
            number: tf.convert_to_tensor(inputs[name])
            for number, name in zip(self.calls.inputs, self.model.input_names, strict=True)
        }
        for call in self.calls.calls:
            args, kwargs = arguments_of(call.node, [read(number, values[number]) for number in call.inputs])
            # Left to itself, a random flip trains.
            given = call_layer(call, *with_training(call.layer, args, kwargs, training=False))
            values.update(zip(call.outputs, tf.nest.flatten(given), strict=True))
            for number in set(call.inputs):
                left[number] -= 1
            for number in (*call.inputs, *call.outputs):
                if not left.get(number):
                    values.pop(number, None)
        return [values[number] for number in self.calls.outputs]

    def pieces(self, batches: Iterable[Any]) -> Iterator[Arrays]:
        """Gives all examples in pieces of at most 262,144 elements and 16 examples, or of one example that is larger.

        Large batches are cut, so that memory is bounded; what comes example by example is put together, for a call of
        every layer costs the same for one as for several. A model whose batch has a fixed size is given what comes.

        Args:
            batches: Of arrays by input name, in the order of the inputs, or of the only one.

        Raises:
            ValueError: If an input is missing, or they do not hold equally many examples.
        """
        fixed = any(tensor.shape[0] is not None for tensor in self.model.inputs)
        waiting: list[Arrays] = []
        for batch in batches:
            arrays = self.arrays(batch)
            _check_counts(arrays)
            for piece in [arrays] if fixed else _cut(arrays):
                if waiting and (fixed or not _fit(waiting, piece)):
                    yield _joined(waiting)
                    waiting = []
                waiting.append(piece)
        if waiting:
            yield _joined(waiting)

    def arrays(self, batch: Any) -> Arrays:
        """Returns the model's inputs in a batch, by name and in their types.

        Raises:
            ValueError: If one is missing, or of another shape; names it.
        """
        names = self.model.input_names
        if not isinstance(batch, Mapping):
            given = list(batch) if isinstance(batch, list | tuple) else [batch]
            if len(given) != len(names):
                raise ValueError(f"calibration: a batch holds {len(given)} arrays; the model takes {', '.join(names)}")
            batch = dict(zip(names, given, strict=True))
        missing = [name for name in names if name not in batch]
        if missing:
            raise ValueError(
                f"calibration: a batch holds {', '.join(map(str, batch))}, but not the model's input {missing[0]!r}"
            )
        found = {}
        for name, tensor in zip(names, self.model.inputs, strict=True):
            array = np.asarray(batch[name])
            if not tensor.shape[1:].is_compatible_with(array.shape[1:]):
                raise ValueError(
                    f"calibration: {name!r} is {list(array.shape)} in a batch; the model takes {tensor.shape}, the "
                    "examples first"
                )
            found[name] = array.astype(tensor.dtype.as_numpy_dtype, copy=False)
        return found


def _check_counts(arrays: Arrays) -> None:
    counts = {len(array) if array.ndim else -1 for array in arrays.values()}
    if len(counts) > 1 or counts & {-1, 0}:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise ValueError(f"calibration: inputs need the same number of examples, at least one, first; got {shapes}")


def _cut(arrays: Arrays) -> Iterator[Arrays]:
    count = _count(arrays)
    step = max(1, min(EXAMPLES, ELEMENTS * count // max(_size(arrays), 1)))
    for start in range(0, count, step):
        yield {name: array[start : start + step] for name, array in arrays.items()}


def _fit(waiting: list[Arrays], piece: Arrays) -> bool:
    """Returns whether a piece has examples of the same shape as those that wait, and room among them."""
    same = all(array.shape[1:] == waiting[0][name].shape[1:] for name, array in piece.items())
    together = [*waiting, piece]
    return same and sum(map(_count, together)) <= EXAMPLES and sum(map(_size, together)) <= ELEMENTS


def _joined(pieces: list[Arrays]) -> Arrays:
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]} if pieces[1:] else pieces[0]


def _count(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))


def _size(arrays: Arrays) -> int:
    return sum(array.size for array in arrays.values())


def channel_axes(layer: Any) -> tuple[int, ...]:
    """Returns the axes of a layer's kernel that count its output channels."""
    kernel = kernel_of(layer)
    if isinstance(layer, DEPTHWISE):
        return (kernel.shape.rank - 2, kernel.shape.rank - 1)
    return (OUTPUT_AXES[type(layer)][1] % kernel.shape.rank,)


def kernel_of(layer: Any) -> Any:
    """Returns the variable that holds a layer's kernel."""
    return getattr(layer, OUTPUT_AXES[type(layer)][0])


@contextmanager
def with_kernel(layer: Any, kernel: Any) -> Iterator[None]:
    """Lets a layer compute with another tensor in the place of its kernel."""
    with _with_attribute(layer, OUTPUT_AXES[type(layer)][0], kernel):
        yield


@contextmanager
def without_activation(layer: Any) -> Iterator[None]:
    """Lets a layer give what its activation is computed of."""
    with _with_attribute(layer, "activation", keras.activations.linear):
        yield


@contextmanager
def _with_attribute(layer: Any, name: str, value: Any) -> Iterator[None]:
    # Past Keras, which would no longer count a kernel among the layer's weights.
    attributes = vars(layer)
    before = attributes[name]
    attributes[name] = value
    try:
        yield
    finally:
        attributes[name] = before


def output_channels_axis(layer: Any, rank: int) -> int:
    """Returns the axis of a layer's outputs that counts channels."""
    return 1 if getattr(layer, "data_format", "channels_last") == "channels_first" else rank - 1
