"""A functional model that computes in TensorFlow what runtimes compute from its precision plan."""

from typing import Any

import numpy as np

from optops.compression.quantization.functional.network import Network, channel_axes, kernel_of
from optops.compression.quantization.functional.rounded import RoundTensor
from optops.compression.quantization.rounding import round_weights
from optops.models.functional.calls import Call, rebuild
from optops.models.functional.copies import give_weights, made_again, settings_of
from optops.models.functional.derived import derive_anew
from optops.models.keras import tf
from optops.precision import PrecisionPlan

_HALVES = {"fp16": "float16", "bf16": "bfloat16"}


def simulate(model: Any, plan: PrecisionPlan) -> Any:
    """Returns the model in canonical form, rounded where its plan says so; for judging without lowering.

    Tensors that have a range are rounded to 8 bits; weights of int8 layers to one scale per output channel, weights
    in a half precision to that; everything else is in float32. Sums that runtimes keep in whole numbers are sums of
    float32 here, so results differ by the rounding of float32, and by a step where that decides between two.

    Args:
        model: Functional or sequential; left as it is.
        plan: Its plan.

    Raises:
        ValueError: If the plan names a layer or a tensor that the model does not have.
    """
    network = Network.of(model)
    return simulate_network(network, plan)


def simulate_network(network: Network, plan: PrecisionPlan) -> Any:
    """Returns what `simulate` does, of a network that is folded already."""
    return network.with_output_names(rounded_form(network, plan))


def rounded_form(
    network: Network, plan: PrecisionPlan, marker: type[RoundTensor] = RoundTensor, *, round_kernels: bool = True
) -> Any:
    """Returns what `simulate_network` does, with outputs that are called after the layers that give them.

    Args:
        network: That is rounded.
        plan: Its plan.
        marker: The layer that rounds a tensor.
        round_kernels: Whether the weights are rounded too.
    """
    check_plan(network, plan)
    copies: dict[str, Any] = {}
    rounded: dict[int, Any] = {}

    def read(number: int, value: Any) -> Any:
        name = network.names[number]
        if name not in plan.ranges:
            return value
        if number not in rounded:
            rounded[number] = marker.after(name, plan.ranges[name])(value)
        return rounded[number]

    def call_layer(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = call.layer.name
        if name not in copies:
            copies[name] = _copy(call.layer, name in plan.bias_corrections)
        return copies[name](*args, **kwargs)

    simulated = rebuild(network.calls, call_layer, read)
    layers = {call.layer.name: call.layer for call in network.calls.calls}
    for name, copy in copies.items():
        _set_weights(layers[name], copy, plan)
        if round_kernels:
            _round_kernel(copy, plan)
    derive_anew(simulated)
    return simulated


def check_plan(network: Network, plan: PrecisionPlan) -> None:
    """Refuses a plan of another network.

    Raises:
        ValueError: If the plan names a layer or a tensor that the network does not have.
    """
    for name in plan.parts:
        if name not in network.quantizable:
            raise ValueError(
                f"the plan puts {name!r} in {plan.parts[name]}, which is none of the model's layers that can be: "
                f"{', '.join(network.quantizable)}"
            )
    for name in plan.ranges:
        if name not in network.names.values():
            raise ValueError(f"the plan has a range for {name!r}, which is none of the model's tensors")


def _copy(layer: Any, with_bias: bool) -> Any:
    config = settings_of(layer)
    return made_again(layer, {**config, "use_bias": True} if with_bias else config)


def _set_weights(layer: Any, copy: Any, plan: PrecisionPlan) -> None:
    arrays = layer.get_weights()
    if layer.name in plan.bias_corrections:
        correction = np.asarray(plan.bias_corrections[layer.name], np.float32)
        kernel, *bias = arrays
        arrays = [kernel, bias[0] + correction if bias else correction]
    give_weights(copy, layer, arrays)


def _round_kernel(layer: Any, plan: PrecisionPlan) -> None:
    precision = plan.parts.get(layer.name)
    if precision == "int8":
        kernel = kernel_of(layer)
        kernel.assign(round_weights(kernel.numpy(), channel_axes(layer), plan.weight_levels))
    elif precision in _HALVES:
        kernel = kernel_of(layer)
        kernel.assign(tf.cast(tf.cast(kernel, _HALVES[precision]), tf.float32))
