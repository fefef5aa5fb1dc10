"""Small functional Keras models of all kinds of topologies: what algorithms on graphs are held to."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from optops.models.functional.derived import derive_anew
from optops.models.functional.output_names import output_names
from optops.models.keras import keras, tf

_L = keras.layers


def _conv(filters: int, size: int = 3, **settings: Any) -> Any:
    return _L.Conv2D(filters, size, **{"padding": "same", **settings})


def _normed(tensor: Any, layer: Any, activation: Any = None) -> Any:
    tensor = _L.BatchNormalization()(layer(tensor))
    return _L.ReLU()(tensor) if activation is None else activation(tensor)


def _residual() -> Any:
    x = keras.Input([8, 8, 3])
    y = _normed(x, _conv(16, use_bias=False))
    z = _L.BatchNormalization()(_conv(16)(_normed(y, _conv(24))))
    y = _L.ReLU()(_L.Add()([y, z]))
    return keras.Model(x, _L.Dense(4)(_L.GlobalAveragePooling2D()(y)))


def _dense_connections() -> Any:
    x = keras.Input([8, 8, 3])
    y = _conv(16)(x)
    for _ in range(2):
        z = _L.ReLU()(_L.BatchNormalization()(y))
        y = _L.Concatenate()([y, _normed(z, _conv(8))])
    return keras.Model(x, _conv(2, 1)(y))


def _depthwise() -> Any:
    x = keras.Input([9, 7, 3])
    y = _normed(x, _L.DepthwiseConv2D(3, padding="same", depth_multiplier=2), _L.ReLU(6.0))
    y = _normed(y, _L.SeparableConv2D(8, 3, strides=2, padding="same"), _L.Activation("swish"))
    s = _L.Reshape((1, 1, 8))(_L.GlobalAveragePooling2D()(y))
    s = _conv(8, 1, activation="sigmoid")(_conv(4, 1, activation="relu")(s))
    return keras.Model(x, _conv(4, 1)(_L.Multiply()([y, s])))


def _grouped() -> Any:
    x = keras.Input([8, 8, 6])
    y = _normed(_L.Normalization()(x), _conv(12, groups=3), _L.LeakyReLU(0.1))
    return keras.Model(x, _conv(4)(_L.PReLU(shared_axes=[1, 2], alpha_initializer="ones")(y)))


def _odd_paddings() -> Any:
    x = keras.Input([9, 9, 3])
    y = _normed(x, _conv(8, padding="valid"))
    y = _normed(_L.ZeroPadding2D(((1, 0), (1, 0)))(y), _conv(8, strides=2, padding="valid"))
    y = _L.MaxPooling2D(2, 1, padding="same")(_L.ZeroPadding2D(((0, 1), (2, 1)))(_conv(8)(y)))
    y = _L.BatchNormalization()(_L.AveragePooling2D(3, 2, padding="same")(_L.Cropping2D(1)(y)))
    return keras.Model(x, _conv(3, dilation_rate=2)(y))


def _two_outputs() -> Any:
    x = keras.Input([None, None, 3], name="image")
    y = _normed(x, _conv(8, strides=2), _L.LeakyReLU(0.1))
    z = _normed(y, _conv(16, strides=2), _L.LeakyReLU(0.1))
    fine = _L.Concatenate()([_L.UpSampling2D()(_normed(z, _conv(8, 1))), y])
    return keras.Model(x, [_conv(5, 1, name="fine")(fine), _L.BatchNormalization(name="coarse")(_conv(5, 1)(z))])


def _two_inputs() -> Any:
    image, facts = keras.Input([8, 8, 3], name="image"), keras.Input([5], name="facts")
    y = _L.Flatten()(_L.MaxPooling2D()(_normed(image, _conv(8))))
    z = _L.Dropout(0.3)(_normed(facts, _L.Dense(8, use_bias=False)))
    y = _L.BatchNormalization(scale=False)(_L.Dense(6)(_L.Concatenate()([y, z])))
    return keras.Model({"image": image, "facts": facts}, {"score": _L.Softmax(name="score")(y), "embedding": z})


def _nested() -> Any:
    a = keras.Input([8, 8, 8])
    block = keras.Model(a, _L.Add()([a, _normed(a, _conv(8, name="inner"))]), name="block")
    x = keras.Input([8, 8, 3])
    y = block(block(_conv(8, name="inner")(x)))
    head = keras.Sequential([_conv(8), _L.BatchNormalization(center=False), _L.Flatten(), _L.Dense(3)])
    return keras.Model(x, head(y))


def _shared() -> Any:
    left, right = keras.Input([8, 8, 3], name="left"), keras.Input([8, 8, 3], name="right")
    first, norm, active, second = _conv(8), _L.BatchNormalization(), _L.ReLU(), _conv(8)
    a, b = (second(active(norm(first(side)))) for side in (left, right))
    # One layer, two batch norms: neither may go into it.
    y = _L.Subtract()([_L.BatchNormalization()(a), _L.BatchNormalization()(b)])
    return keras.Model([left, right], _L.Dense(2)(_L.GlobalMaxPooling2D()(y)))


def _transposed() -> Any:
    x = keras.Input([4, 4, 3])
    y = _normed(x, _L.Conv2DTranspose(8, 3, strides=2, padding="same"))
    return keras.Model(x, _conv(3, 1, activation="tanh")(_normed(y, _L.Conv2DTranspose(6, 3, strides=2))))


def _pixel_shuffle() -> Any:
    x = keras.Input([None, None, 3])
    y = _normed(x * 2.0 - 1.0, _conv(8), _L.PReLU(shared_axes=[1, 2]))
    y = y + _L.BatchNormalization()(_conv(8)(y))
    y = tf.nn.depth_to_space(_conv(32)(y), 2)
    return keras.Model(x, tf.clip_by_value(_conv(3)(tf.nn.relu(y)), 0.0, 1.0))


def _sequence() -> Any:
    ids = keras.Input([12], dtype="int32", name="ids")
    y = _normed(_L.Embedding(30, 8)(ids), _L.Conv1D(8, 3, padding="causal"))
    y = tf.concat([y, _L.Dense(8, activation="gelu")(y)], axis=-1)
    return keras.Model(ids, _L.Dense(5)(y))


def _tail_of_batch_norms() -> Any:
    x = keras.Input([8, 8, 4])
    y = _L.BatchNormalization()(_L.BatchNormalization()(_conv(8, activation="relu")(_L.BatchNormalization()(x))))
    z = _conv(8)(y)
    return keras.Model(x, [_L.BatchNormalization()(z), z])


TOPOLOGIES: Mapping[str, Callable[[], Any]] = {
    "residual": _residual,
    "dense_connections": _dense_connections,
    "depthwise": _depthwise,
    "grouped": _grouped,
    "odd_paddings": _odd_paddings,
    "two_outputs": _two_outputs,
    "two_inputs": _two_inputs,
    "nested": _nested,
    "shared": _shared,
    "transposed": _transposed,
    "pixel_shuffle": _pixel_shuffle,
    "sequence": _sequence,
    "tail_of_batch_norms": _tail_of_batch_norms,
}


def build_topology(name: str, seed: int = 1) -> Any:
    """Returns one of `TOPOLOGIES` with random values in all of its weights, batch statistics among them."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = TOPOLOGIES[name]()
    randomize(model, seed)
    return model


def randomize(model: Any, seed: int = 1) -> None:
    """Gives the vectors of a model random values: biases, and what batch norms scale, shift and measured."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.shape.rank == 1 and weight.dtype.is_floating:
            positive = any(part in weight.name for part in ("variance", "gamma"))
            drawn = random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(0, 0.3, weight.shape)
            weight.assign(drawn)
    derive_anew(model)


def example_inputs(model: Any, examples: int = 2, seed: int = 1, size: int = 8) -> dict[str, np.ndarray]:
    """Returns random inputs by name; a size that is not fixed becomes `size`."""
    random = np.random.default_rng(seed)
    inputs = {}
    for name, tensor in zip(model.input_names, model.inputs, strict=True):
        shape = [examples, *(size if length is None else length for length in tensor.shape[1:])]
        drawn = random.uniform(0, 1, shape) if tensor.dtype.is_floating else random.integers(0, 20, shape)
        inputs[name] = drawn.astype(tensor.dtype.as_numpy_dtype)
    return inputs


def outputs_of(model: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns what a model gives at inference, by the names of its outputs."""
    given = tf.nest.pack_sequence_as(model._nested_inputs, [inputs[name] for name in model.input_names])
    tensors = tf.nest.flatten(model(given, training=False))
    return {name: tensor.numpy() for name, tensor in zip(output_names(model), tensors, strict=True)}
