"""What finds a range in a tensor's histogram, by name."""

from collections.abc import Callable, Mapping

from optops.compression.quantization.calibration.histogram import Histogram
from optops.compression.quantization.calibration.kullback_leibler import kullback_leibler
from optops.compression.quantization.calibration.mean_squared_error import mean_squared_error
from optops.compression.quantization.calibration.min_max import min_max
from optops.compression.quantization.calibration.percentile import percentile
from optops.compression.quantization.rounding import Range

Calibrator = Callable[[Histogram], Range]

CALIBRATORS: Mapping[str, Calibrator] = {
    "min_max": min_max,
    "percentile": percentile,
    "mean_squared_error": mean_squared_error,
    "kullback_leibler": kullback_leibler,
}
"""In the order in which they are preferred where they are equally good."""
