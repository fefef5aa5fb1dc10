"""Mixed precision is for training: at inference a model computes in float32, in which its weights are kept anyway."""

from typing import Any

import numpy as np

from optops.models.keras import tf

MIXED = ("mixed_float16", "mixed_bfloat16")
HALVES = (tf.float16, tf.bfloat16)


def is_mixed(layer: Any) -> bool:
    """Returns whether a layer has its weights in float32 and computes in a half precision."""
    return layer.dtype_policy.name in MIXED


def in_full_precision(config: Any) -> Any:
    """Returns a layer's config, and that of the layers within it, with float32 for mixed precision."""
    if isinstance(config, dict):
        if config.get("class_name") == "Policy" and config["config"]["name"] in MIXED:
            return "float32"
        return {key: in_full_precision(value) for key, value in config.items()}
    return [in_full_precision(value) for value in config] if isinstance(config, list) else config


def type_in_full_precision(tensor: Any) -> tf.DType:
    """Returns the type of a model's tensor once its layers compute in full precision."""
    return tf.float32 if tensor.dtype in HALVES and is_mixed(tensor._keras_history.layer) else tensor.dtype


def arguments_in_full_precision(arguments: Any) -> Any:
    """Returns the arguments of a call with float32 for half precision: constants, and types that it casts to."""

    def widened(value: Any) -> Any:
        if isinstance(value, str):
            return "float32" if value in [half.name for half in HALVES] else value
        if isinstance(value, tf.DType | np.dtype):
            return tf.float32 if value in HALVES else value
        is_constant = isinstance(value, np.ndarray | np.generic) or tf.is_tensor(value)
        return tf.cast(value, tf.float32) if is_constant and tf.as_dtype(value.dtype) in HALVES else value

    return tf.nest.map_structure(widened, arguments)
