"""Calibration: which range of a tensor 8 bits are spent on, found in one pass over examples that keeps none of them."""

from optops.compression.quantization.calibration.calibrators import CALIBRATORS, Calibrator
from optops.compression.quantization.calibration.histogram import Histogram

__all__ = ["CALIBRATORS", "Calibrator", "Histogram"]
