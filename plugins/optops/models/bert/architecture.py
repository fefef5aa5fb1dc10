"""BERT and ALBERT as an architecture of optops: built, saved, loaded, and lowered to runtimes."""

from collections.abc import Mapping
from typing import Any

from optops.models.base import Architecture
from optops.models.bert.config import BertConfig
from optops.models.bert.model import Bert


class BertArchitecture(Architecture):
    """Encoder that classifies texts; ALBERT is one whose layers share weights and whose embedding is factorised."""

    name = "bert"

    def build(self, config: Mapping[str, Any]) -> Bert:
        """Returns a freshly initialised model."""
        return Bert(BertConfig.from_mapping(config))

    def config_of(self, model: Bert) -> dict[str, Any]:
        """Returns the config with the sizes of every layer."""
        return model.config.to_json()

    def lowerings(self) -> Mapping[str, str]:
        """Returns the stock export and the lowerings to TensorFlow, the operator library, ONNX Runtime and OpenVINO."""
        return {
            "stock": "optops.graph.bert_stock:export",
            "tensorflow": "optops.graph.bert_tensorflow:lower",
            "tensorflow+kernels": "optops.graph.bert_kernels:lower",
            "onnxruntime": "optops.graph.bert_onnx:lower",
            "openvino": "optops.graph.bert_openvino:lower",
        }

    def live(self) -> str:
        """Returns what executes a model while it trains."""
        return "optops.graph.bert_live:live"

    def pruner(self) -> str:
        """Returns the pruner of layers, heads and feed-forward units."""
        return "optops.compression.pruning.bert:prune_steps"
