"""Pictures of 10 to 12 bits that a camera has written into 16: as the 8 that a network sees, they are nearly black."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from PIL.Image import Image

_LEVELS: Final = 1 << 12


def is_dark_16_bit(image: Image) -> bool:
    """Return whether no pixel of an image of 16 bits uses the upper four."""
    return (image.mode == "I" or image.mode.startswith("I;16")) and int(np.asarray(image).max(initial=0)) < _LEVELS


def find_dark_16_bit(rows: pd.DataFrame) -> pd.Series[str]:
    """Name images of which `is_dark_16_bit` is true, in the column `dark`."""
    reason = f"no pixel of its 16 bits is above {_LEVELS - 1:,}, so with 8 it is nearly black; stretch it to all 16"
    return pd.Series(reason, index=rows.index[rows["dark"].to_numpy(bool)], dtype=str)
