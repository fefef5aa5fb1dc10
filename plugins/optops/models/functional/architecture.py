"""Any functional or sequential Keras model as an architecture of optops."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optops.models.base import Architecture, LoweringFunction


class FunctionalArchitecture(Architecture):
    """Functional and sequential models of tf_keras, whatever their shape.

    The config is the model's own, as JSON. Layers with code of their own are refused. In `architecture.json`,
    `serving` may hold `inputs`: input name to constraints on its values (see `optops.runtimes.constraints`).
    """

    name = "functional"

    def build(self, config: Mapping[str, Any]) -> Any:
        """Returns a model with fresh weights."""
        from optops.models.functional.config import from_config

        return from_config(config)

    def config_of(self, model: Any) -> dict[str, Any]:
        """Returns the config of a model.

        Raises:
            ValueError: If it is not functional, has code of its own, or nested models share a layer; names it.
        """
        from optops.models.functional.config import to_config

        config = to_config(model)
        _refuse_shared(self.named_weights(model))
        return config

    def named_weights(self, model: Any) -> dict[str, Any]:
        """Returns the weights by the names of the layers that hold them, the outermost first, and their places."""
        named = {}
        for layer in model.layers:
            if hasattr(layer, "layers") and getattr(layer, "_is_graph_network", False):
                named.update({f"{layer.name}/{name}": weight for name, weight in self.named_weights(layer).items()})
            else:
                for place, weight in enumerate(layer.weights):
                    kind = weight.name.rpartition("/")[2].partition(":")[0]
                    named[f"{layer.name}/{place}/{kind}"] = weight
        return named

    def load(self, folder: Path) -> Any:
        """Returns the model that `save` wrote.

        Raises:
            ValueError: If a weight is missing, has another shape, or is not finite.
        """
        from optops.models.functional.derived import derive_anew

        model = super().load(folder)
        derive_anew(model)
        return model

    def lowerings(self) -> Mapping[str, LoweringFunction]:
        """Returns the stock export and the lowerings to TensorFlow, ONNX Runtime and OpenVINO."""
        return {
            "stock": LoweringFunction("optops.graph.functional_stock:export", ("fp32",)),
            "tensorflow": LoweringFunction("optops.graph.functional_tensorflow:lower", ("fp32",)),
            "onnxruntime": LoweringFunction("optops.graph.functional_onnx:lower", ("fp32", "fp16", "int8")),
            "openvino": LoweringFunction("optops.graph.functional_openvino:lower", ("fp32", "fp16", "bf16", "int8")),
        }

    def planner(self) -> str:
        """Returns the planner of static int8."""
        return "optops.compression.quantization.functional:make_plan"

    def quantization_trainer(self) -> str:
        """Returns what trains a model for its plan of static int8."""
        return "optops.compression.quantization.functional:training_form"

    def pruner(self) -> str:
        """Returns the pruner of channels."""
        return "optops.compression.pruning.channels.steps:prune_steps"


def _refuse_shared(named: Mapping[str, Any]) -> None:
    """Refuses weights that have two names: the config makes the layers of each model by themselves."""
    first: dict[int, str] = {}
    for name, weight in named.items():
        other = first.setdefault(id(weight), name)
        if other != name:
            layer, same = (path.rsplit("/", 2)[0] for path in (other, name))
            raise ValueError(
                f"layers {layer!r} and {same!r} are one, shared by nested models, of which saving would make two; "
                "call it in one model alone, or do without nested models"
            )
