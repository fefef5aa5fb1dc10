"""What every executable functional model says of itself, and how it is read and traced for lowering."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optops.compression.quantization.functional.network import Network
from optops.graph.freezing import save_signature
from optops.graph.lowering import LoweringError
from optops.models.base import Description, load_architecture
from optops.models.functional.calls import calls_of
from optops.models.functional.folding import fold_batch_norms
from optops.models.functional.input_names import served_name
from optops.models.functional.output_names import output_names
from optops.models.keras import keras, tf
from optops.runtimes.base import ExecutableInfo
from optops.runtimes.constraints import CHECKS


@dataclass(frozen=True)
class Served:
    """A trained model and how it is served.

    Attributes:
        model: As it was trained.
        constraints: Input name to constraints on its values.
    """

    model: Any
    constraints: Mapping[str, Mapping[str, Any]]

    @classmethod
    def load(cls, trainable: Path) -> "Served":
        """Reads a `trainable/` folder.

        Raises:
            LoweringError: If the serving settings name an input or a constraint that is not there.
        """
        description = Description.load(trainable)
        model = load_architecture(description.architecture).load(trainable)
        constraints = description.serving.get("inputs", {})
        served = cls(model, constraints)
        for name, wanted in constraints.items():
            if name not in served.input_names:
                have = ", ".join(served.input_names)
                raise LoweringError(f"{trainable}: serving constrains input {name!r}; the model has {have}")
            unknown = sorted(set(wanted) - set(CHECKS))
            if unknown:
                raise LoweringError(
                    f"{trainable}: serving constrains input {name!r} by {', '.join(unknown)}; "
                    f"known are {', '.join(sorted(CHECKS))}"
                )
        return served

    @property
    def input_names(self) -> list[str]:
        """Returns the names of the inputs as a SavedModel's signature can have them, in the order of the model's."""
        return [served_name(name) for name in self.model.input_names]

    def canonical(self) -> Any:
        """Returns the model with batch norms folded and nested models opened up.

        Raises:
            LoweringError: If it can not be followed, or a batch norm in it changes with every call.
        """
        try:
            canonical = fold_batch_norms(self.model)
        except TypeError as error:
            raise LoweringError(str(error)) from error
        for call in calls_of(canonical).calls:
            if isinstance(call.layer, keras.layers.BatchNormalization) and call.layer.trainable and call.training:
                raise LoweringError(
                    f"batch norm {call.layer.name!r} is called with training=True, so that every call would change its "
                    "statistics, which runtimes hold as constants; call it without, or freeze it (trainable=False)"
                )
        return canonical

    def network(self) -> Network:
        """Returns the canonical form, to be followed call by call."""
        canonical = self.canonical()
        return Network(canonical, calls_of(canonical), tuple(self.model.output_names))

    def trace(self, model: Any) -> Any:
        """Returns a concrete function of a form of the model: inputs and outputs have the trained model's names."""
        wanted = list(zip(output_names(self.model), self.model.outputs, strict=True))

        @tf.function(
            input_signature=[
                tf.TensorSpec(tensor.shape, tensor.dtype, name=name)
                for name, tensor in zip(self.input_names, self.model.inputs, strict=True)
            ],
            autograph=False,
        )
        def serve(*arguments: tf.Tensor) -> dict[str, tf.Tensor]:
            given = model(tf.nest.pack_sequence_as(model._nested_inputs, arguments), training=False)
            # One tensor may be several outputs, or be an input: each gets a name of its own.
            return {
                name: tf.identity(tf.cast(tensor, output.dtype), name=f"output_{place}")
                for place, ((name, output), tensor) in enumerate(zip(wanted, tf.nest.flatten(given), strict=True))
            }

        return serve.get_concrete_function()

    def save(self, model: Any, traced: Any, saved_model: Path) -> None:
        """Writes a form of the model and what `trace` made of it as a SavedModel."""
        # With its variables only: Keras would trace every layer once more, for callers that do not exist.
        module = tf.Module()
        module.weights = model.weights
        save_signature(module, traced, saved_model)

    def info(self, runtime: str, precision: str, traced: Any, facts: Mapping[str, float | str]) -> ExecutableInfo:
        """Returns the description of an executable.

        Args:
            runtime: That loads it.
            precision: It mainly runs in.
            traced: The concrete function that it was made from.
            facts: What lowering did.
        """
        inputs = {
            name: {"dtype": tensor.dtype.name, "shape": list(tensor.shape), **self.constraints.get(name, {})}
            for name, tensor in zip(self.input_names, self.model.inputs, strict=True)
        }
        outputs = {
            name: {"dtype": tensor.dtype.name, "shape": list(tensor.shape)}
            for name, tensor in traced.structured_outputs.items()
        }
        return ExecutableInfo(runtime, precision, inputs, outputs, facts=dict(facts))
