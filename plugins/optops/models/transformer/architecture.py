"""The Transformer as an architecture of optops: built, saved, loaded, and lowered to runtimes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optops.models.base import Architecture, LoweringFunction
from optops.models.transformer.config import TransformerConfig

if TYPE_CHECKING:
    from optops.models.transformer.model import Transformer


class TransformerArchitecture(Architecture):
    """Encoder-decoder Transformer for translation, decoded by beam search."""

    name = "transformer"

    def build(self, config: Mapping[str, Any]) -> "Transformer":
        """Returns a freshly initialised model; see `TransformerConfig.from_mapping` for the two forms of a config."""
        from optops.models.transformer.model import Transformer

        return Transformer(TransformerConfig.from_mapping(config))

    def config_of(self, model: "Transformer") -> dict[str, Any]:
        """Returns the config with the sizes of every layer."""
        return model.config.to_json()

    def lowerings(self) -> Mapping[str, LoweringFunction]:
        """Returns the stock export and the lowerings to TensorFlow, the operator library and ONNX Runtime."""
        return {
            "stock": LoweringFunction("optops.graph.transformer_stock:export", ("fp32",)),
            "tensorflow": LoweringFunction("optops.graph.transformer_tensorflow:lower", ("fp32", "bf16")),
            "tensorflow+kernels": LoweringFunction("optops.graph.transformer_kernels:lower", ("fp32", "bf16", "int8")),
            "onnxruntime": LoweringFunction("optops.graph.transformer_onnx:lower", ("fp32", "int8")),
        }

    def live(self) -> str:
        """Returns what executes a model while it trains."""
        return "optops.graph.transformer_live:live"

    def pruner(self) -> str:
        """Returns the pruner of layers, outputs, heads and feed-forward units."""
        return "optops.compression.pruning.transformer:prune_steps"
