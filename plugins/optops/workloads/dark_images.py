"""Pictures of 10 to 12 bits that a camera has written into 16: as the 8 that a network sees, they are nearly black."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from optops.workloads.images import has_16_bits, pixels_of

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

_LEVELS: Final = 1 << 12


def is_dark_16_bit(image: Image, file: Path) -> bool:
    """Return whether no pixel of an image of 16 bits, decoded from a file, uses the upper four."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return int(np.asarray(image).max(initial=0)) < _LEVELS
    # Of colours the decoder gives the upper eight bits.
    return has_16_bits(file) and int(pixels_of(image, "RGB").max(initial=0)) < _LEVELS >> 8


def find_dark_16_bit(rows: pd.DataFrame) -> pd.Series[str]:
    """Name images of which `is_dark_16_bit` is true, in the column `dark`."""
    reason = f"no pixel of its 16 bits is above {_LEVELS - 1:,}, so with 8 it is nearly black; stretch it to all 16"
    return pd.Series(reason, index=rows.index[rows["dark"].to_numpy(bool)], dtype=str)
