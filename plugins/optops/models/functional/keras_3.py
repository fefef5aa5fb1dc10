"""Functional models of Keras 3 as the same models of Keras 2, which can be pruned, taught and quantised."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from optops.models.functional.config import CARRY_CODE
from optops.models.functional.derived import derive_anew
from optops.models.functional.full_precision import HALVES
from optops.models.keras import keras, tf

LAYERS = "keras.src.layers."
"""Where the layers are that Keras 3 brings itself."""

RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}
"""Settings that a layer of Keras 2 has by another name."""

SETTINGS = ("name", "trainable", "dtype", "zero_output_for_mask")
"""Settings that layers of Keras 2 take without naming them."""

IMPLIED = {"data_format": "channels_last"}
"""Settings that some layers of Keras 2 lack, for they know no other."""

CONTEXT = ("training", "mask", "query_mask", "key_mask", "value_mask")
"""Arguments that Keras 3 records and Keras 2 hands on by itself; what a model is called with goes before `training`."""

FREE_SIZES = (64, 16, 224)
"""What axes of any size are tried with, until the original accepts one."""

TOLERANCE = {True: 0.05, False: 1e-3}
"""Largest difference as a share of the largest output, with and without arithmetic in half precision."""

REFUSALS = (TypeError, ValueError, LookupError, AttributeError, tf.errors.OpError)
"""What either Keras raises for what it can not do."""


def to_keras_2(model: Any) -> Any:
    """Returns a functional model of tf_keras that computes what a functional or sequential one of Keras 3 does.

    Every layer is made anew from its settings and called as it was, with the weights of the original. What the two
    versions do not agree on is not known in advance: both are called with random inputs.

    Args:
        model: Of Keras 3, with layers of Keras alone and its simple operations (`x + y`, `keras.ops.mean(x, axis=1)`).

    Raises:
        ValueError: If a layer has no counterpart, or the two do not compute the same; names it.
    """
    converter = _Converter()
    try:
        converted = converter.model(model)
        converter.set_weights()
    except REFUSALS as error:
        raise ValueError(f"model {model.name!r} of Keras 3 has no counterpart in Keras 2: {error}") from error
    derive_anew(converted)
    _check_likeness(model, converted)
    return converted


class _Converter:
    """Makes each layer once, however often and wherever it is called."""

    def __init__(self) -> None:
        self.made: dict[int, tuple[Any, Any]] = {}

    def model(self, model: Any) -> Any:
        """Returns a model of Keras 2 without weights, or raises one of `REFUSALS`."""
        graph = _graph_of(model)
        values: dict[int, Any] = {}
        for tensor in graph.inputs:
            values[id(tensor)] = _input_like(tensor)
        for node in _nodes(graph):
            args, kwargs = node.arguments.fill_in(values)
            settings = {name: value for name, value in kwargs.items() if name not in CONTEXT and value is not None}
            given = self.call(node.operation, args, settings)
            values.update(zip(map(id, node.outputs), tf.nest.flatten(given), strict=True))
        inputs, outputs = (_mapped(values, part) for part in (graph._inputs_struct, graph._outputs_struct))
        return keras.Model(inputs, outputs, name=model.name)

    def call(self, operation: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Calls the counterpart of a layer, a nested model, or an operation."""
        import keras as keras_3

        if not isinstance(operation, keras_3.layers.Layer):
            return _operate(operation, args, kwargs)
        if type(operation) is keras_3.layers.Activation:
            hard = HARD.get(str(operation.get_config()["activation"]))
            if hard is not None:
                return hard(operation.name, *args)
        if id(operation) not in self.made:
            nested = isinstance(operation, keras_3.Model)
            # The original is kept, for the number of an object that is gone may be that of another.
            self.made[id(operation)] = operation, self.model(operation) if nested else _layer(operation)
        return self.made[id(operation)][1](*args, **kwargs)

    def set_weights(self) -> None:
        """Gives the layers the weights of the originals, or raises one of `REFUSALS`."""
        for original, layer in self.made.values():
            if isinstance(layer, keras.Model):
                continue  # its layers are among the others
            values, weights = [weight.numpy() for weight in original.weights], layer.weights
            if isinstance(layer, keras.layers.Normalization) and len(weights) == len(values) + 1:
                values.append(np.zeros((), np.int64))  # of how many examples, which only Keras 2 keeps
            shapes = [tuple(weight.shape) for weight in weights]
            if shapes != [value.shape for value in values]:
                raise ValueError(f"layer {layer.name!r} has weights of {[v.shape for v in values]}, here of {shapes}")
            layer.set_weights(values)


def _graph_of(model: Any) -> Any:
    graph = getattr(model, "_functional", None) or model
    if not hasattr(graph, "_nodes_by_depth"):
        raise TypeError(
            f"{model.name!r} is a {type(model).__name__}, which is neither functional nor a built sequential"
        )
    return graph


def _nodes(graph: Any) -> list[Any]:
    """Returns the calls that the outputs rest on, but for those that only make a mask, in the order of computation."""
    wanted = {id(tensor) for tensor in graph.outputs}
    found = []
    for depth in sorted(graph._nodes_by_depth):
        for node in reversed(graph._nodes_by_depth[depth]):
            if not node.is_input and wanted.intersection(map(id, node.outputs)):
                found.append(node)
                arguments = [node.arguments.args, {k: v for k, v in node.arguments.kwargs.items() if k not in CONTEXT}]
                wanted.update(map(id, _flat(arguments)))
    return found[::-1]


def _flat(structure: Any) -> list[Any]:
    from keras import tree

    return list(tree.flatten(structure))


def _mapped(values: Mapping[int, Any], structure: Any) -> Any:
    """Returns a list, dictionary or single tensor of the original with the counterparts of its tensors."""
    from keras import tree

    return tree.map_structure(lambda tensor: values[id(tensor)], structure)


def _input_like(tensor: Any) -> Any:
    if tensor.dtype == "string" or tensor.sparse or getattr(tensor, "ragged", False):
        raise TypeError(f"input {tensor.name!r} is of texts, sparse or ragged")
    return keras.Input(batch_shape=tuple(tensor.shape), dtype=tensor.dtype, name=tensor.name)


def _layer(original: Any) -> Any:
    """Returns a layer of Keras 2 with the settings of one of Keras 3."""
    what = type(original).__name__
    if not type(original).__module__.startswith(LAYERS) or what in CARRY_CODE:
        raise TypeError(f"layer {original.name!r} is a {what} of {type(original).__module__}, which carries code")
    kind = _class_of(keras, {"module": "keras.layers", "class_name": what})
    settings = _settings(kind, type(original), original.get_config())
    # Its `from_config` wants to know the shapes that it was built for.
    return kind(**settings) if kind is keras.layers.MultiHeadAttention else kind.from_config(settings)


def _class_of(library: Any, written: Mapping[str, Any]) -> Any:
    """Returns the class that a setting names, a layer or an initializer for example, in Keras 2 or 3."""
    kind = getattr(getattr(library, written["module"].partition(".")[2], None), written["class_name"], None)
    if kind is None:
        raise LookupError(f"there is no {written['module']}.{written['class_name']}")
    return kind


def _settings(kind: Any, original: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a layer as Keras 2 takes them.

    What it does not know is left out where it is what a layer of Keras 3 has anyway.
    """
    known, defaults = {*SETTINGS, *_parameters(kind)}, _parameters(original)
    settings = {}
    for own, value in config.items():
        key = RENAMED.get(kind.__name__, {}).get(own, own)
        if key in known:
            settings[key] = _plain(value)
        elif value not in (None, False, IMPLIED.get(own)) and (own not in defaults or value != defaults[own]):
            raise TypeError(f"{config.get('name', '')!r}, a {kind.__name__}, has {own}={value!r}")
    return settings


def _parameters(kind: Any) -> dict[str, Any]:
    """Returns what a class can be made with, and the defaults."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if "__init__" in vars(base):
            found |= {name: one.default for name, one in inspect.signature(base.__init__).parameters.items()}
    return found


def _plain(value: Any) -> Any:
    """Returns a setting as Keras 2 reads it: dtype policies by their names, layers within layers with its settings."""
    if isinstance(value, list | tuple):
        return type(value)(_plain(part) for part in value)
    if not isinstance(value, Mapping):
        return value
    if value.get("class_name") == "DTypePolicy":
        return value["config"]["name"]
    if str(value.get("module")).startswith("keras."):
        import keras as keras_3

        kind, original = (_class_of(library, value) for library in (keras, keras_3))
        return {**value, "config": _settings(kind, original, value["config"])}
    return {key: _plain(part) for key, part in value.items()}


def _operate(operation: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    name = type(operation).__name__
    if name in MERGES and len(args) == 2 and not kwargs and _are_alike(*args):
        return MERGES[name](name=operation.name)(list(args))
    if name not in OPERATIONS:
        raise LookupError(f"there is no counterpart of the operation {name} of {type(operation).__module__}")
    return OPERATIONS[name](operation, *args, **kwargs)


def _are_alike(one: Any, other: Any) -> bool:
    tensors = all(hasattr(value, "_keras_history") for value in (one, other))
    return tensors and one.dtype == other.dtype and one.shape.as_list() == other.shape.as_list()


MERGES: Mapping[str, Any] = {
    "Add": keras.layers.Add,
    "Multiply": keras.layers.Multiply,
    "Subtract": keras.layers.Subtract,
    "Maximum": keras.layers.Maximum,
    "Minimum": keras.layers.Minimum,
}
"""Operations on two tensors that are layers of Keras 2, where these are of one shape."""


def _hard_sigmoid(name: str, x: Any) -> Any:
    return tf.multiply(keras.layers.ReLU(6.0, name=f"{name}_relu6")(tf.add(x, 3.0)), 1 / 6)


HARD: Mapping[str, Callable[[str, Any], Any]] = {
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": lambda name, x: keras.layers.Multiply(name=name)([x, _hard_sigmoid(name, x)]),
}
"""Activations that Keras 2 lacks, or has with another slope, as the networks of its own applications spell them out."""


def _activation(function: str) -> Callable[..., Any]:
    return lambda operation, x: keras.layers.Activation(function, name=operation.name)(x)


def _reduction(function: Any) -> Callable[..., Any]:
    return lambda operation, x: function(x, axis=operation.axis, keepdims=operation.keepdims)


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "Add": lambda operation, x, y: tf.add(x, y),
    "Subtract": lambda operation, x, y: tf.subtract(x, y),
    "Multiply": lambda operation, x, y: tf.multiply(x, y),
    "Divide": lambda operation, x, y: tf.divide(x, y),
    "TrueDivide": lambda operation, x, y: tf.divide(x, y),
    "Maximum": lambda operation, x, y: tf.maximum(x, y),
    "Minimum": lambda operation, x, y: tf.minimum(x, y),
    "Matmul": lambda operation, x, y: tf.matmul(x, y),
    "Negative": lambda operation, x: tf.negative(x),
    "Square": lambda operation, x: tf.square(x),
    "Sqrt": lambda operation, x: tf.sqrt(x),
    "Exp": lambda operation, x: tf.exp(x),
    "Mean": _reduction(tf.reduce_mean),
    "Sum": _reduction(tf.reduce_sum),
    "Max": _reduction(tf.reduce_max),
    "Min": _reduction(tf.reduce_min),
    "Relu": _activation("relu"),
    "Sigmoid": _activation("sigmoid"),
    "Tanh": _activation("tanh"),
    "Silu": _activation("swish"),
    "Relu6": lambda operation, x: keras.layers.ReLU(6.0, name=operation.name)(x),
    "Softmax": lambda operation, x: keras.layers.Softmax(operation.axis, name=operation.name)(x),
    "Concatenate": lambda operation, xs: keras.layers.Concatenate(operation.axis, name=operation.name)(list(xs)),
    "Reshape": lambda operation, x: tf.reshape(x, [-1 if size is None else size for size in operation.newshape]),
    "Transpose": lambda operation, x: tf.transpose(x, operation.axes),
    "ExpandDims": lambda operation, x: tf.expand_dims(x, operation.axis),
    "Squeeze": lambda operation, x: tf.squeeze(x, operation.axis),
    "GetItem": lambda operation, x, key: x[key],
}
"""What plain operations of Keras 3 are in Keras 2, given the operation, which holds its settings, and its inputs."""


def _check_likeness(model: Any, converted: Any) -> None:
    """Refuses a model that computes something else.

    Raises:
        ValueError: Says how different it is.
    """
    expected, found = (tf.nest.flatten(answer) for answer in _answers(model, converted))
    types = [layer.compute_dtype for layer in converted._flatten_layers()]
    tolerance = TOLERANCE[any(half.name in types for half in HALVES)]
    for name, theirs, ours in zip(converted.output_names, expected, found, strict=True):
        difference = _difference(np.asarray(theirs, np.float64), np.asarray(ours, np.float64))
        if difference > tolerance:
            raise ValueError(
                f"model {model.name!r} of Keras 3 computes something else in Keras 2: output {name!r} differs by "
                f"{difference:.1%} of its largest value"
            )


def _difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Returns the largest difference as a share of the largest value that is expected."""
    # What is no number in both is none because of the weights, which are looked at when the model is saved.
    known = np.isfinite(expected)
    if found.shape != expected.shape or not np.array_equal(np.isfinite(found), known):
        return np.inf
    scale = max(float(np.abs(expected[known]).max(initial=0)), 1e-6)
    return float(np.abs(found[known] - expected[known]).max(initial=0)) / scale


def _answers(model: Any, converted: Any) -> tuple[Any, Any]:
    """Returns what both give for random inputs, of the first kind and size that they accept."""
    graph, refused = _graph_of(model), None
    for size in FREE_SIZES:
        for draw in (np.random.default_rng(0).normal, partial(np.random.default_rng(0).integers, 0, 2)):
            inputs = {id(tensor): _random(tensor, size, draw) for tensor in graph.inputs}
            try:
                theirs = model(_mapped(inputs, graph._inputs_struct), training=False)
                return theirs, converted([tf.constant(array) for array in inputs.values()], training=False)
            except REFUSALS as error:
                refused = error
    raise ValueError(f"model {model.name!r} accepts no random input: {refused}")


def _random(tensor: Any, size: int, draw: Callable[..., Any]) -> np.ndarray:
    first, *rest = tensor.shape
    numbers = draw(size=[first or 2, *(axis or size for axis in rest)])
    # Where there are ids, every table has 0 and 1.
    floats = tensor.dtype.startswith(("float", "bfloat"))
    return np.asarray(numbers if floats else numbers > 0).astype(tf.as_dtype(tensor.dtype).as_numpy_dtype)
