"""BERT and ALBERT as an architecture of optops: built, saved, loaded, and lowered to runtimes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optops.models.base import Architecture, LoweringFunction
from optops.models.bert.config import BertConfig

if TYPE_CHECKING:
    from optops.models.bert.model import Bert


class BertArchitecture(Architecture):
    """Encoder that classifies texts; ALBERT is one whose layers share weights and whose embedding is factorised."""

    name = "bert"

    def build(self, config: Mapping[str, Any]) -> "Bert":
        """Returns a freshly initialised model."""
        from optops.models.bert.model import Bert

        return Bert(BertConfig.from_mapping(config))

    def config_of(self, model: "Bert") -> dict[str, Any]:
        """Returns the config with the sizes of every layer."""
        return model.config.to_json()

    def lowerings(self) -> Mapping[str, LoweringFunction]:
        """Returns the stock export and the lowerings to TensorFlow, the operator library, ONNX Runtime and OpenVINO."""
        return {
            "stock": LoweringFunction("optops.graph.bert_stock:export", ("fp32",)),
            "tensorflow": LoweringFunction("optops.graph.bert_tensorflow:lower", ("fp32", "bf16")),
            "tensorflow+kernels": LoweringFunction("optops.graph.bert_kernels:lower", ("fp32", "bf16", "int8")),
            "onnxruntime": LoweringFunction("optops.graph.bert_onnx:lower", ("fp32", "int8")),
            "openvino": LoweringFunction("optops.graph.bert_openvino:lower", ("fp32", "bf16", "int8")),
        }

    def planner(self) -> str:
        """Returns the planner that also finds the ranges of activations, which OpenVINO needs in int8."""
        return "optops.graph.bert_calibration:make_plan"

    def live(self) -> str:
        """Returns what executes a model while it trains."""
        return "optops.graph.bert_live:live"

    def pruner(self) -> str:
        """Returns the pruner of layers, heads and feed-forward units."""
        return "optops.compression.pruning.bert:prune_steps"
