"""A functional model's config as JSON: read and written without code that came with the model."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from optops.models.keras import keras
from optops.models.ragged import refuse_ragged

MODULES = (
    *("builtins", "keras", "keras.activations", "keras.constraints", "keras.initializers", "keras.layers"),
    *("keras.mixed_precision", "keras.models", "keras.regularizers", "keras.layers.experimental.preprocessing"),
)
PACKAGES = ("tf_keras.src.engine.", "tf_keras.src.layers.", "tf_keras.src.mixed_precision.")
OPERATIONS = ("__operators__", "bitwise", "image", "keras.backend", "linalg", "math", "nn", "signal")
"""Modules of TensorFlow whose functions only compute; others read and write files, or call Python."""
# fmt: off
FUNCTIONS = frozenset((
    "abs", "add", "add_n", "argmax", "argmin", "argsort", "batch_to_space", "boolean_mask", "broadcast_to", "cast",
    "clip_by_norm", "clip_by_value", "concat", "convert_to_tensor", "cumsum", "divide", "einsum", "equal", "exp",
    "expand_dims", "fill", "floor", "gather", "gather_nd", "greater", "greater_equal", "identity", "less",
    "less_equal", "logical_and", "logical_not", "logical_or", "matmul", "maximum", "meshgrid", "minimum", "multiply",
    "negative", "norm", "not_equal", "one_hot", "ones", "ones_like", "pad", "pow", "range", "rank", "realdiv",
    "reduce_all", "reduce_any", "reduce_logsumexp", "reduce_max", "reduce_mean", "reduce_min", "reduce_prod",
    "reduce_sum", "repeat", "reshape", "reverse", "roll", "round", "scatter_nd", "shape", "shape_n", "sigmoid",
    "sign", "size", "slice", "sort", "space_to_batch", "split", "sqrt", "square", "squeeze", "stack", "stop_gradient",
    "strided_slice", "subtract", "tanh", "tensordot", "tile", "transpose", "truediv", "unstack", "where", "zeros",
    "zeros_like",
))
# fmt: on
CARRY_CODE = ("Lambda", "TensorFlowOpLayer", "ClassMethod", "__lambda__", "__typespec__")


def to_config(model: Any) -> dict[str, Any]:
    """Returns the config of a functional or sequential model, from which `from_config` makes one of the same shape.

    Raises:
        ValueError: If the model is neither, has a ragged input, or one of its layers is not Keras' own or keeps a
            vocabulary; names it.
    """
    check_model(model)
    refuse_ragged(model)
    try:
        written = json.loads(model.to_json())
    except (TypeError, NotImplementedError) as error:
        raise ValueError(f"model {model.name!r} has a setting that JSON can not hold: {error}") from error
    config = {"class_name": written["class_name"], "config": written["config"]}
    check_config(config)
    return config


def from_config(config: Mapping[str, Any]) -> Any:
    """Returns a model with fresh weights.

    Raises:
        ValueError: If the config names anything but layers and functions of Keras and TensorFlow that only compute.
    """
    check_config(config)
    try:
        model = keras.models.model_from_json(json.dumps(config))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"this config describes no functional model: {error}") from error
    check_model(model)
    return model


def check_model(model: Any) -> None:
    """Refuses what is not a built functional or sequential model of Keras' own layers.

    Raises:
        ValueError: Names the layer and what it is.
    """
    if type(model) not in (keras.models.Sequential, keras.Model) and type(model).__name__ != "Functional":
        raise ValueError(
            f"model {getattr(model, 'name', model)!r} is a {type(model).__name__}; only functional and sequential "
            "models of tf_keras can be built again without the code of their class"
        )
    if not getattr(model, "_is_graph_network", False):
        raise ValueError(
            f"model {model.name!r} has no graph yet; give its first layer an input shape, or call it on keras.Input"
        )
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            check_model(layer)
        elif not type(layer).__module__.startswith("tf_keras.") or type(layer).__name__ in CARRY_CODE:
            raise ValueError(
                f"layer {layer.name!r} is a {type(layer).__name__} of {type(layer).__module__}, which can not be built "
                "again without code of its own; use layers of tf_keras and functions of TensorFlow"
            )
        elif _keeps_a_table(layer):
            raise ValueError(
                f"layer {layer.name!r} is a {type(layer).__name__} with a vocabulary, or with bins that it has learnt, "
                "which are no weights of a fixed size; such a model can be served, not trained: import it as it is"
            )


def _keeps_a_table(layer: Any) -> bool:
    """Returns whether a layer, or one within it, computes with what neither its config nor its weights bring back."""
    return any(
        isinstance(part, keras.layers.StringLookup | keras.layers.IntegerLookup)
        or (isinstance(part, keras.layers.Discretization) and part.input_bin_boundaries is None)
        for part in layer._flatten_layers()
    )


def check_config(config: Mapping[str, Any]) -> None:
    """Refuses a config that would bring in code, or what a file of this machine holds.

    Raises:
        ValueError: Names the layer and what it asks for.
    """
    for name, part in _objects(config, "model"):
        what, module = str(part["class_name"]), str(part.get("module") or "keras")
        # As tf_keras reads the modules of Keras 2.13 to 2.15.
        module = f"tf_{module}" if module.startswith("keras.src.") else module
        if what == "function" and not callable(getattr(keras.activations, str(part["config"]), None)):
            raise ValueError(f"{name!r} calls a function {part['config']!r} of its own; use one of keras.activations")
        if what in CARRY_CODE or not (module in MODULES or module.startswith(PACKAGES)) or not _is_class(what, part):
            raise ValueError(f"{name!r} is a {what} of {module}, which carries code; use layers of tf_keras")
        function = part["config"].get("function") if isinstance(part["config"], Mapping) else None
        if what in ("TFOpLambda", "SlicingOpLambda") and not _computes(str(function)):
            raise ValueError(
                f"layer {name!r} calls tf.{function}, which is not known to only compute; use functions of "
                f"{', '.join(f'tf.{module}' for module in OPERATIONS[1:])}"
            )
        _refuse_files(name, part["config"])


def _refuse_files(name: str, config: Any) -> None:
    # Whoever asks the model would be told what any file of the machine that imports it holds.
    if not isinstance(config, Mapping):
        return
    if isinstance(config.get("vocabulary"), str):
        raise ValueError(
            f"layer {name!r} reads its vocabulary from the file {config['vocabulary']!r}, which is not in the model; "
            "give it the words as a list"
        )
    if "feature_columns" in config:
        raise ValueError(
            f"layer {name!r} has feature columns, which may read vocabularies and checkpoints that are not in the "
            "model; use the preprocessing layers of tf_keras"
        )


def _is_class(name: str, part: Mapping[str, Any]) -> bool:
    """Returns whether the name of a class is one: by the name of a function, Keras would hand out the function."""
    registered = part.get("registered_name")
    if name == "function":
        return registered in (None, part["config"])
    return name.isidentifier() and (name[0].isupper() or name.startswith("__")) and registered in (None, name)


def _computes(function: str) -> bool:
    module, _, name = function.removeprefix("compat.v1.").rpartition(".")
    return name in FUNCTIONS if not module else module in OPERATIONS


def _is_bytecode(value: Any) -> bool:
    """Returns whether a `value` is a lambda as Keras writes it, code first; constants are lists of numbers."""
    match value:
        case [str(), int(), int()]:  # a tensor that a layer takes: by layer, call and place
            return False
        case [str(), *_]:
            return True
    return False


def _has_bytecode(config: Mapping[str, Any]) -> bool:
    """Returns whether a config says that a function of it is bytecode, as the wrappers of recurrent cells do."""
    return any(kind == "lambda" for key, kind in config.items() if str(key).endswith("_type"))


def _objects(value: Any, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields all that is built by the name of its class, with the name of the layer that it is or belongs to."""
    if isinstance(value, Mapping):
        config = value.get("config")
        if isinstance(config, Mapping) and isinstance(config.get("name"), str):
            name = config["name"]
        if "class_name" in value and "config" in value:
            yield name, value
        if _is_bytecode(value.get("value")) or _has_bytecode(value):
            yield name, {"class_name": "Lambda", "config": {}}
        for part in value.values():
            yield from _objects(part, name)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _objects(part, name)
