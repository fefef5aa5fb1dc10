"""The compression algorithms, usable without the pipeline; each is imported when it is first asked for."""

from importlib import import_module
from typing import Any

_HOMES = {
    "batch_norm_scale": "optops.compression.pruning.channels.criteria",
    "drop_layers": "optops.compression.pruning.layers",
    "drop_unused_outputs": "optops.compression.pruning.outputs",
    "distill": "optops.compression.distillation.distill",
    "follow_channels": "optops.compression.pruning.channels.graph",
    "l1_norm": "optops.compression.pruning.channels.criteria",
    "l2_norm": "optops.compression.pruning.channels.criteria",
    "measure_batch_norms": "optops.compression.pruning.channels.batch_norm",
    "prune": "optops.compression.pruning.prune",
    "prune_channels": "optops.compression.pruning.channels.prune",
    "quantize": "optops.compression.quantization.quantize",
    "scale_penalty": "optops.compression.pruning.channels.batch_norm",
    "sparsify": "optops.compression.pruning.sparsity",
    "taylor": "optops.compression.pruning.channels.criteria",
    "to_keras_2": "optops.models.functional.keras_3",
}
__all__ = [
    "batch_norm_scale",
    "distill",
    "drop_layers",
    "drop_unused_outputs",
    "follow_channels",
    "l1_norm",
    "l2_norm",
    "measure_batch_norms",
    "prune",
    "prune_channels",
    "quantize",
    "scale_penalty",
    "sparsify",
    "taylor",
    "to_keras_2",
]


def __getattr__(name: str) -> Any:
    """Imports an algorithm, and TensorFlow with it, at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
