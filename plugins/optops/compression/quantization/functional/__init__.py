"""Static int8 for functional models: ranges from calibration, corrected biases, and a plan that runtimes execute."""

from optops.compression.quantization.functional.plan import make_plan
from optops.compression.quantization.functional.simulate import simulate
from optops.compression.quantization.functional.training import TrainingForm, training_form

__all__ = ["TrainingForm", "make_plan", "simulate", "training_form"]
