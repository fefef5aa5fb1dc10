"""How much of a weight survives int8: its signal-to-noise ratio."""

from pathlib import Path

import numpy as np

from optops.models.base import WEIGHTS_FILE

LEVELS = 127
SMALLEST_HALF_SIGNAL = 50
"""In dB, of weights in fp16; of ordinary ones it is about 74."""


def signal_to_noise(kernel: np.ndarray) -> float:
    """Returns the ratio of a weight's power to that of its int8 rounding error, in dB; infinite if nothing is lost.

    Args:
        kernel: [in, out]; quantised symmetrically with one scale per column, as the runtimes do.
    """
    wide = kernel.astype(np.float64)
    scale = np.abs(wide).max(axis=0) / LEVELS
    scale[scale == 0] = 1
    noise = np.square(np.round(wide / scale) * scale - wide).sum()
    power = np.square(wide).sum()
    return float(10 * np.log10(power / noise)) if noise and power else float("inf")


def fits_half(weights: np.ndarray) -> bool:
    """Returns whether fp16 holds weights well: it ends at 65,504, and below 6e-5 it has fewer and fewer digits."""
    wide = weights.astype(np.float64)
    with np.errstate(over="ignore"):
        noise = np.square(wide.astype(np.float16) - wide).sum()
    return bool(np.square(wide).sum() >= noise * 10 ** (SMALLEST_HALF_SIGNAL / 10))


def dense_weights(trainable: Path) -> dict[str, np.ndarray]:
    """Returns the weights of dense products, [in, out], and embeddings that are also output projections, by name.

    Raises:
        FileNotFoundError: If the folder holds no weights.
    """
    path = trainable / WEIGHTS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing, so {trainable} holds no trainable model to plan for")
    weights: dict[str, np.ndarray] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            value = arrays[name]
            if value.ndim == 2 and is_embedding(name):
                weights[name] = value.T
            elif value.ndim == 2 and name.endswith("/kernel:0"):
                weights[name] = value
    return weights


def is_embedding(name: str) -> bool:
    """Returns whether a weight is an embedding, by the name that tf_keras gives it."""
    return name.endswith("/embeddings:0")
