"""Quantisation-aware training: the form of a functional model that learns through the roundings of its plan."""

from dataclasses import dataclass, replace
from typing import Any

from optops.compression.quantization.functional.network import Network, channel_axes, kernel_of, with_kernel
from optops.compression.quantization.functional.rounded import RoundTensor, round_kernel
from optops.compression.quantization.functional.simulate import check_plan, rounded_form
from optops.models.functional.calls import Call, calls_of, rebuild, with_training
from optops.models.keras import keras
from optops.precision import PrecisionPlan


@dataclass(frozen=True)
class TrainingForm:
    """A model that is trained for its precision plan.

    Attributes:
        model: Computes what runtimes compute from the plan; whoever trains it changes the weights of `trained`.
        trained: The model in canonical form and in float, with corrected biases.
        plan: Of `trained`; has no corrections of biases any more.
    """

    model: Any
    trained: Any
    plan: PrecisionPlan


def training_form(model: Any, plan: PrecisionPlan) -> TrainingForm:
    """Returns the form of a model that learns through the roundings of its plan.

    It gives exactly what `simulate` gives of the same weights, and all roundings pass the gradient straight through
    (Jacob et al. 2018, section 3). The ranges of tensors stay those of the plan; each channel's scale follows its
    weights. Batch norms are folded first, and those that can not be keep their statistics, as in the runtimes.

    Args:
        model: Functional or sequential; left as it is.
        plan: Its plan, with layers in int8 or float.

    Raises:
        ValueError: If the plan does not fit the model, nothing can be learnt from an output, or a constraint of the
            model's weights would be lost; names it.
    """
    _check_outputs(model)
    # With nothing but corrections, that is the canonical form with other biases.
    corrections = PrecisionPlan("int8", dynamic=False, bias_corrections=plan.bias_corrections)
    corrected = rounded_form(Network.of(model), corrections)
    network = Network(corrected, calls_of(corrected), tuple(model.output_names))
    check_plan(network, plan)
    _check_constraints(model, corrected)
    rounded: dict[int, Any] = {}
    wrapped: dict[Any, Any] = {}

    def read(number: int, value: Any) -> Any:
        name = network.names[number]
        if name in plan.ranges and number not in rounded:
            rounded[number] = RoundTensor.after(name, plan.ranges[name])(value)
        return rounded.get(number, value)

    def call_layer(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = call.layer
        if plan.parts.get(layer.name) != "int8":
            args, kwargs = with_training(layer, args, kwargs, training=False)
            return layer(*args, **kwargs)
        if layer not in wrapped:
            wrapped[layer] = _Int8Layer(layer, plan.weight_levels)
        return wrapped[layer](*args, **kwargs)

    trains, trained = map(network.with_output_names, (rebuild(network.calls, call_layer, read), corrected))
    if trained.output_names != model.output_names:
        raise ValueError(
            f"in canonical form the outputs would be called {', '.join(trained.output_names)}, for layers within have "
            f"the names {', '.join(model.output_names)}; give those layers other names"
        )
    return TrainingForm(trains, trained, replace(plan, bias_corrections={}))


def _check_outputs(model: Any) -> None:
    for name, tensor in zip(model.output_names, model.outputs, strict=True):
        if not tensor.dtype.is_floating:
            raise ValueError(
                f"output {name!r} is {tensor.dtype.name}, which has no gradient; train the model up to the numbers "
                "that it is made from"
            )


def _check_constraints(model: Any, canonical: Any) -> None:
    constrained, kept = (
        [weight.name for weight in each.trainable_variables if weight.constraint is not None]
        for each in (model, canonical)
    )
    if len(kept) < len(constrained):
        raise ValueError(
            f"of the constraints on {', '.join(constrained)}, some are on weights that become others when batch norms "
            "are folded and separable convolutions taken apart, and training for int8 would break them; do without it"
        )


class _Int8Layer(keras.layers.Layer):
    """Calls a layer with its kernel as int8 keeps it; the gradient reaches the kernel itself."""

    def __init__(self, layer: Any, levels: int) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.layer, self.levels = layer, levels
        self.supports_masking = layer.supports_masking

    def call(self, inputs: Any) -> Any:
        """Returns what the layer gives."""
        with with_kernel(self.layer, round_kernel(kernel_of(self.layer), channel_axes(self.layer), self.levels)):
            return self.layer(inputs)
