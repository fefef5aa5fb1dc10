"""Quantisation: the plans that say which part of a model runs in which type."""

from optops.compression.quantization.plans import dynamic_int8_plan, float_plan, make_plan
from optops.compression.quantization.signal import signal_to_noise

__all__ = ["dynamic_int8_plan", "float_plan", "make_plan", "signal_to_noise"]
