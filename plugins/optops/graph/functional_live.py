"""A functional model executed as it is while it trains: what each epoch is judged by."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from optops.models.functional.output_names import output_names
from optops.models.keras import tf
from optops.runtimes.base import ExecutableInfo, LoadedExecutable


def live(model: Any, serving: Mapping[str, Any]) -> LoadedExecutable:
    """Returns an executable over a model's own variables: it follows them as they change.

    Args:
        model: Functional or sequential.
        serving: May hold `inputs`, constraints on their values by name; see `optops.runtimes.constraints`.
    """
    names, constraints = output_names(model), serving.get("inputs", {})
    specs = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype)
        for name, tensor in zip(model.input_names, model.inputs, strict=True)
    }

    @tf.function(autograph=False, input_signature=[specs])
    def infer(inputs: Mapping[str, Any]) -> dict[str, Any]:
        given = tf.nest.pack_sequence_as(model._nested_inputs, [inputs[name] for name in specs])
        return dict(zip(names, tf.nest.flatten(model(given, training=False)), strict=True))

    info = ExecutableInfo(
        runtime="tensorflow",
        precision="fp32",
        inputs={name: {**_described(spec), **constraints.get(name, {})} for name, spec in specs.items()},
        outputs={name: _described(tensor) for name, tensor in infer.get_concrete_function().structured_outputs.items()},
    )

    def execute(inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        info.check(inputs)
        outputs = infer({name: tf.constant(inputs[name]) for name in specs})
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return LoadedExecutable(info, execute)


def _described(spec: Any) -> dict[str, Any]:
    return {"dtype": spec.dtype.name, "shape": list(spec.shape)}
