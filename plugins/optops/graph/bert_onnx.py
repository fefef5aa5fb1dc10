"""Lowers a BERT to ONNX Runtime: a graph of its fused operators, in fp32 or dynamic int8."""

from pathlib import Path

import numpy as np
import onnx

from optops.graph.bert_serving import executable_info, load_trained
from optops.graph.lowering import Lowering, LoweringError, check_plan
from optops.graph.onnx_graph import OnnxGraph
from optops.graph.onnx_nodes import CONTRIB
from optops.graph.onnx_quantization import quantize_products
from optops.graph.transformer_onnx_blocks import Blocks
from optops.models.bert.config import Activation
from optops.models.bert.model import NORM_EPSILON
from optops.models.bert.weights import BertWeights, read_weights
from optops.models.token_ids import PADDING
from optops.models.transformer.weights import EncoderLayerWeights
from optops.precision import PrecisionPlan
from optops.runtimes.onnxruntime import MODEL

ACTIVATIONS: dict[Activation, tuple[str, str]] = {
    "gelu": ("Gelu", CONTRIB),
    "gelu_tanh": ("FastGelu", CONTRIB),
    "relu": ("Relu", ""),
}
"""Operator and its domain, by activation."""


def lower(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes `model.onnx`.

    Raises:
        LoweringError: If int8 did not reach what the plan names.
    """
    model, serving = load_trained(trainable)
    check_plan(plan, model)
    blocks = classifier_graph(read_weights(model), plan)
    quantize_products(blocks.graph.model(), blocks.quantized, folder / MODEL)
    wanted = {name for name, precision in plan.parts.items() if precision == "int8"}
    missed = wanted - {part for parts in blocks.quantized.values() for part in parts}
    if missed:
        raise LoweringError(f"the plan wants int8 for {', '.join(sorted(missed))}; no product has that name")
    facts: dict[str, float | str] = {"nodes": len(blocks.graph.nodes), "nodes_quantized": len(blocks.quantized)}
    executable_info("onnxruntime", plan.precision, model.config, serving, facts).save(folder)
    return Lowering(facts, [f"{name} stays in float: {why}" for name, why in sorted(plan.notes.items())])


def classifier_graph(weights: BertWeights, plan: PrecisionPlan) -> Blocks:
    """Returns the graph from `ids` to `probabilities`."""
    graph, config = OnnxGraph("bert"), weights.config
    blocks = Blocks(graph, plan, config.head_size, epsilon=NORM_EPSILON)
    ids = graph.input("ids", "int32", ["batch", "length"])
    sizes = graph.add("Shape", ids)
    there = graph.add("Greater", ids, graph.constant(np.array(PADDING, np.int32)))
    mask = graph.add("Cast", there, to=onnx.TensorProto.INT32)
    length = graph.add("Slice", sizes, graph.ints(1), graph.ints(2))
    positions = graph.add("Slice", graph.constant(weights.positions), graph.ints(0), length)
    embedded = graph.add("Add", graph.add("Gather", graph.constant(weights.tokens), ids), positions)
    states = blocks.norm(graph.add("Reshape", embedded, graph.ints(-1, config.embeddings)), weights.embedding_norm)
    if weights.projection is not None:
        states = blocks.single(states, weights.projection)
    for layer in weights.layers:
        states = _layer(blocks, layer, states, sizes, mask, config.activation)
    in_texts = graph.add("Concat", sizes, graph.ints(config.width), axis=0)
    pooled = _pool(graph, graph.add("Reshape", states, in_texts), there, config.pooling)
    logits = blocks.single(graph.add("Tanh", blocks.single(pooled, weights.pooler)), weights.classifier)
    graph.output(graph.add("Softmax", logits, axis=-1), "probabilities", "float32", ["batch", config.classes])
    return blocks


def _layer(
    blocks: Blocks, layer: EncoderLayerWeights, states: str, sizes: str, mask: str, activation: Activation
) -> str:
    attention = layer.attention
    split = blocks.split_products(states, [attention.query, attention.key, attention.value], sizes)
    (added,) = blocks.attention(split, attention, padding_mask=mask)
    _, states = blocks.add_and_norm(states, added, layer.attention_norm)
    hidden = blocks.single(states, layer.feed_forward.expand)
    operator, domain = ACTIVATIONS[activation]
    hidden = blocks.graph.add(operator, hidden, domain=domain)
    added = blocks.single(hidden, layer.feed_forward.contract)
    return blocks.add_and_norm(states, added, layer.feed_forward_norm)[1]


def _pool(graph: OnnxGraph, states: str, there: str, pooling: str) -> str:
    if pooling == "first":
        return graph.add("Gather", states, graph.constant(np.array(0, np.int64)), axis=1)
    counted = graph.add("Cast", there, to=onnx.TensorProto.FLOAT)
    weighted = graph.add("Mul", states, graph.add("Unsqueeze", counted, graph.ints(2)))
    total = graph.add("ReduceSum", weighted, graph.ints(1), keepdims=0)
    return graph.add("Div", total, graph.add("ReduceSum", counted, graph.ints(1), keepdims=1))
