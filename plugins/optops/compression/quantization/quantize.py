"""Quantises a functional Keras model in one call, without any pipeline."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from optops.compression.distillation.distill import distill
from optops.compression.distillation.outputs import teacher_loss
from optops.compression.quantization.fallback import Fallback
from optops.compression.quantization.functional.edges import kept_in_float
from optops.compression.quantization.functional.measured import Measured, measure
from optops.compression.quantization.functional.network import Network
from optops.compression.quantization.functional.search import search_layers
from optops.compression.quantization.functional.simulate import simulate, simulate_network
from optops.compression.quantization.functional.training import training_form
from optops.models.training import Progress, TrainingSettings
from optops.models.training.settings import Batches, Validate
from optops.precision import Judge, PrecisionPlan

ARCHITECTURE = "functional"
PLAN_FILE = "precision_plan.json"
TRAINING = TrainingSettings(
    epochs=3, learning_rate=3e-4, schedule="cosine", warmup_steps=50, replicas=1, average_checkpoints=1
)
"""How models are trained for their plan if nothing else is said: shortly, and down to a learning rate of zero."""
JUDGED_BATCHES = 16
"""Batches that epochs are judged on if nobody says how."""


@dataclass(frozen=True)
class QuantizedModel:
    """A model with its plan, and how both came about; `print` lists the layers.

    Attributes:
        model: As it was given, or, once trained for the plan, in canonical form.
        plan: What runs in int8, with which ranges.
        simulated: A Keras model that computes what runtimes compute from the plan.
        measured: What calibration found, before any training.
        reasons: Layer to why it stays in float.
        fallback: How layers went back to float, if there was a judge.
    """

    model: Any
    plan: PrecisionPlan
    simulated: Any
    measured: Measured
    reasons: Mapping[str, str]
    fallback: Fallback | None

    def train(
        self,
        batches: Callable[[int], Batches],
        *,
        settings: TrainingSettings = TRAINING,
        validate: Validate | None = None,
        checkpoints: Path | None = None,
        report: Callable[[Progress], None] = lambda progress: None,
    ) -> "QuantizedModel":
        """Trains the weights for the plan, which stays as it is: quantisation-aware training.

        The model learns to give what the float model gives, with everything rounded as runtimes round it; no labels are
        needed. Resumable like `fit`, whose arguments these are.

        Args:
            batches: Gives the batches of an epoch (from 1): arrays by input name.
            settings: How to train.
            validate: Called with the model as runtimes compute it, after each epoch; higher is better. If None, epochs
                are judged by their likeness to the float model on the first 16 batches.
            checkpoints: Folder of this run's checkpoints; if None, a temporary one, and a killed run starts again.
            report: Called about every two seconds.

        Returns:
            The model with the weights of the best epoch. Whether they are better than before, `validate` can say.

        Raises:
            TrainingDivergedError: If the loss is NaN or infinite.
            ValueError: If no layer is in int8, a batch lacks an input, or an output has no gradient.
        """
        if "int8" not in self.plan.parts.values():
            raise ValueError("train: the plan has no layer in int8, so there is nothing to train the model for")
        form, exact = training_form(self.model, self.plan), self.measured.network.model
        judge = validate or _likeness(exact, batches)
        distill(exact, form.model, batches, validate=judge, settings=settings, checkpoints=checkpoints, report=report)
        return replace(self, model=form.trained, plan=form.plan, simulated=simulate(form.trained, form.plan))

    def save(self, folder: Path) -> None:
        """Writes the model in canonical form (`trainable/`) and its plan; `optops.graph.lowering` goes on from there.

        Raises:
            ValueError: If the model can not be built again without code of its own; names the layer.
        """
        from optops.models.base import load_architecture

        # As it was given, it may hold nested models, and what these share Keras would write once for each.
        network = Network.of(self.model)
        canonical = network.with_output_names(network.model)
        kept = canonical if canonical.output_names == self.model.output_names else self.model
        load_architecture(ARCHITECTURE).save(kept, folder / "trainable", {})
        self.plan.save(folder / PLAN_FILE)

    def export(self, folder: Path, runtime: str) -> list[str]:
        """Writes an executable for a runtime, to be loaded by `optops.runtimes.load_executable`.

        Args:
            folder: Where the executable goes.
            runtime: `onnxruntime`, `openvino`, ...

        Returns:
            What was done to the model, for people.

        Raises:
            LoweringError: If the model can not be lowered to this runtime in int8.
        """
        from tempfile import TemporaryDirectory

        from optops.graph.lowering import lower

        with TemporaryDirectory(prefix="optops-quantized-") as temporary:
            self.save(Path(temporary))
            return lower(Path(temporary) / "trainable", self.plan, runtime, folder).notes

    def __str__(self) -> str:
        """Lists the layers: what each runs in, its share of the arithmetic, its signal, and why it stays in float."""
        shares, none = self.measured.shares, self.measured.network.why_none
        lines = [none] if none else []
        for name, record in self.measured.layers.items():
            signal = f"{shares[name]:.1%} of the arithmetic, {record.decibels:.1f} dB"
            why = self.reasons.get(name, record.note)
            lines.append(f"{name}: {self.plan.parts.get(name, 'float')}, {signal}" + (f"; {why}" if why else ""))
        if self.fallback is not None:
            lines.append(
                f"quality {self.fallback.quality:.4g}, {self.fallback.required:.4g} required, "
                f"{self.fallback.whole:.4g} without fallback; measured {self.fallback.evaluations} times"
            )
        return "\n".join(lines)


def quantize(
    model: Any,
    calibration: Iterable[Any] | Callable[[], Iterable[Any]],
    *,
    evaluate: Callable[[Any], float] | None = None,
    tolerance: float | None = None,
    milliseconds: Mapping[str, float] | None = None,
) -> QuantizedModel:
    """Plans int8 for a functional Keras model, from a few of its inputs.

    Batch norms are folded first. Every tensor gets the range that keeps most of its signal, every weight one scale
    per output channel, every bias what takes away the mean error. Layers that int8 would not pay for stay in float;
    with `evaluate`, so do those without which the model would lose more than `tolerance`.

    Args:
        model: Functional or sequential; left as it is.
        calibration: Batches of inputs (an array, a list of them, or a dictionary by input name each): a list, a
            `tf.data.Dataset`, or a function that gives them anew. A few dozen to a few hundred examples do.
        evaluate: Called with a Keras model; returns its quality, higher is better.
        tolerance: How much lower that may be than the float model's.
        milliseconds: What int8 saves of each layer, by name, if that is known; its share of the arithmetic if not.

    Raises:
        TypeError: If the model is neither functional nor sequential, or the calibration data can be read once only.
        ValueError: If there is no calibration data, it does not fit the model, or a value is not finite.
    """
    if (evaluate is None) != (tolerance is None):
        raise ValueError("quantize: give `evaluate` and `tolerance` together, or neither")
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"quantize: tolerance is {tolerance}; it must be at least 0")
    batches = _repeatable(calibration)
    measured = measure(model, batches)
    reasons, fallback = kept_in_float(measured), None
    if evaluate is not None and tolerance is not None:
        judge = Judge(evaluate, tolerance)
        reasons, fallback = search_layers(measured, reasons, judge, batches, milliseconds)
    plan = measured.plan([name for name in measured.layers if name not in reasons], reasons)
    return QuantizedModel(model, plan, simulate_network(measured.network, plan), measured, reasons, fallback)


def _likeness(exact: Any, batches: Callable[[int], Batches]) -> Validate:
    """Returns a measure of how close a model's outputs are to those of another one."""
    loss, judged = teacher_loss(exact), list(islice(batches(1), JUDGED_BATCHES))
    return lambda model: -sum(float(loss(model, batch, 0.0)) for batch in judged) / len(judged)


def _repeatable(calibration: Iterable[Any] | Callable[[], Iterable[Any]]) -> Callable[[], Iterable[Any]]:
    if callable(calibration):
        return calibration
    if iter(calibration) is calibration:
        raise TypeError(
            f"quantize: calibration is a {type(calibration).__name__}, which can be read once, and it is read twice; "
            "give a list, a dataset, or a function that returns the batches"
        )
    return lambda: calibration
