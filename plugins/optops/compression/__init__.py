"""The compression algorithms, usable without the pipeline; each is imported when it is first asked for."""

from importlib import import_module
from typing import Any

_HOMES = {
    "drop_layers": "optops.compression.pruning.layers",
    "drop_unused_outputs": "optops.compression.pruning.outputs",
    "distill": "optops.compression.distillation.distill",
    "follow_channels": "optops.compression.pruning.channels.graph",
    "prune": "optops.compression.pruning.prune",
    "prune_channels": "optops.compression.pruning.channels.prune",
    "sparsify": "optops.compression.pruning.sparsity",
}
__all__ = ["distill", "drop_layers", "drop_unused_outputs", "follow_channels", "prune", "prune_channels", "sparsify"]


def __getattr__(name: str) -> Any:
    """Imports an algorithm, and TensorFlow with it, at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
