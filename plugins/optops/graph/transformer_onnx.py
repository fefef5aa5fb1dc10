"""Lowers a Transformer to ONNX Runtime: encoder and decoder step as graphs of their own, driven by our loop."""

from pathlib import Path

import numpy as np
import onnx

from optops.graph.lowering import Lowering, LoweringError
from optops.graph.onnx_graph import OnnxGraph
from optops.graph.onnx_quantization import quantize_products
from optops.graph.transformer_onnx_blocks import Blocks
from optops.graph.transformer_serving import executable_info, load_trained
from optops.models.token_ids import END, PADDING
from optops.models.transformer.weights import TransformerWeights, own_ancestry, read_weights
from optops.precision import PrecisionPlan
from optops.runtimes.onnxruntime import ENCODER, SELECT, STEP, TRANSLATE


def lower(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes `encoder.onnx`, `step.onnx` and `select.onnx` for the driver `translate`.

    Raises:
        LoweringError: If int8 did not reach what the plan names.
    """
    model, settings = load_trained(trainable)
    weights = read_weights(model)
    graphs = {ENCODER: encoder_graph(weights, plan), STEP: step_graph(weights, plan, settings.beam)}
    quantized: dict[str, list[str]] = {}
    facts: dict[str, float | str] = {"nodes": sum(len(blocks.graph.nodes) for blocks in graphs.values())}
    for name, blocks in graphs.items():
        quantize_products(blocks.graph.model(), blocks.quantized, folder / name)
        quantized |= blocks.quantized
    _check_reached(plan, quantized)
    onnx.save(select_graph(weights, settings.beam).model(), str(folder / SELECT))
    facts["nodes_quantized"] = len(quantized)
    executable_info("onnxruntime", plan.precision, model.config, settings, facts, driver=TRANSLATE).save(folder)
    return Lowering(facts, [f"{name} stays in float: {why}" for name, why in sorted(plan.notes.items())])


def _check_reached(plan: PrecisionPlan, quantized: dict[str, list[str]]) -> None:
    wanted = {name for name, precision in plan.parts.items() if precision == "int8"}
    reached = {part for parts in quantized.values() for part in parts}
    if plan.precision == "int8" and not reached:
        raise LoweringError("the plan says int8 but names no weight of this model in int8")
    if wanted - reached:
        raise LoweringError(f"the plan wants int8 for {', '.join(sorted(wanted - reached))}; no product has that name")


def encoder_graph(weights: TransformerWeights, plan: PrecisionPlan) -> Blocks:
    """Returns the graph from `ids` to the keys and values that the decoder's layers attend to, and their bias."""
    graph = OnnxGraph("encoder")
    blocks = Blocks(graph, plan, weights.head_size)
    width, head_size = weights.embedding.shape[1], weights.head_size
    ids = graph.input("ids", "int32", ["batch", "length"])
    sizes = graph.add("Shape", ids)
    padding = graph.constant(np.array(PADDING, np.int32))
    mask = graph.add("Cast", graph.add("Greater", ids, padding), to=onnx.TensorProto.INT32)
    length = graph.add("Slice", sizes, graph.ints(1), graph.ints(2))
    positions = graph.add("Slice", graph.constant(weights.positions), graph.ints(0), length)
    embedded = graph.add("Add", graph.add("Gather", graph.constant(weights.embedding), ids), positions)
    states = graph.add("Reshape", embedded, graph.ints(-1, width))
    normed = blocks.norm(states, weights.encoder[0].attention_norm)
    following = [layer.attention_norm for layer in weights.encoder[1:]] + [weights.encoder_norm]
    for layer, next_norm in zip(weights.encoder, following, strict=True):
        attention = layer.attention
        split = blocks.split_products(normed, [attention.query, attention.key, attention.value], sizes)
        (added,) = blocks.attention(split, attention, padding_mask=mask)
        states, normed = blocks.add_and_norm(states, added, layer.feed_forward_norm)
        states, normed = blocks.add_and_norm(states, blocks.feed_forward(normed, layer.feed_forward), next_norm)
    graph.output(mask, "cross_mask", "int32", ["batch", "length"])
    parts = [part for layer in weights.decoder for part in (layer.cross.key, layer.cross.value)]
    in_heads = graph.add("Concat", sizes, graph.ints(-1, head_size), axis=0)
    for name, value in zip(_cross_cache(weights), blocks.split_products(normed, parts, sizes), strict=True):
        heads = graph.add("Transpose", graph.add("Reshape", value, in_heads), perm=[0, 2, 1, 3])
        graph.output(heads, name, "float32", _cross_cache(weights)[name])
    return blocks


def step_graph(weights: TransformerWeights, plan: PrecisionPlan, beam: int) -> Blocks:
    """Returns the graph of one decoder step, from the last ids of all hypotheses to the best continuations.

    Hypotheses of one sentence attend to the keys of all of them, under a bias that leaves each only its own
    ancestors; so a change of parents re-orders that bias and never the keys and values.
    """
    graph = OnnxGraph("step")
    blocks = Blocks(graph, plan, weights.head_size)
    tokens = graph.input("tokens", "int32", ["batch", beam])
    parents = graph.input("parents", "int64", ["batch", beam])
    alive = graph.input("alive", "float32", ["batch", beam])
    position = graph.input("position", "int64", [1])
    cache = {name: graph.input(name, "float32", shape) for name, shape in _self_cache(weights, beam).items()}
    cross = {name: graph.input(name, "float32", shape) for name, shape in _cross_cache(weights).items()}
    mask = graph.input("cross_mask", "int32", ["batch", "length"])

    ancestry = _next_ancestry(graph, cache["ancestry"], parents, beam)
    grown = {"ancestry": ancestry}
    states = _embed(graph, weights, tokens, position)
    normed = blocks.norm(states, weights.decoder[0].attention_norm)
    following = [layer.attention_norm for layer in weights.decoder[1:]] + [weights.decoder_norm]
    leading = graph.ints(-1, beam)
    for index, (layer, next_norm) in enumerate(zip(weights.decoder, following, strict=True)):
        key, value = f"key_{index}", f"value_{index}"
        attention = layer.attention
        parts = blocks.split_products(normed, [attention.query, attention.key, attention.value], leading)
        added, grown[key], grown[value] = blocks.attention(
            parts, attention, bias=ancestry, past=[cache[key], cache[value]]
        )
        states, normed = blocks.add_and_norm(states, added, layer.cross_norm)
        queries = blocks.split_products(normed, [layer.cross.query], leading)
        memory = [cross[f"cross_{key}"], cross[f"cross_{value}"]]
        (added,) = blocks.attention([*queries, *memory], layer.cross, padding_mask=mask)
        states, normed = blocks.add_and_norm(states, added, layer.feed_forward_norm)
        states, normed = blocks.add_and_norm(states, blocks.feed_forward(normed, layer.feed_forward), next_norm)
    logits = blocks.single(normed, weights.projection)
    _best_continuations(graph, logits, alive, beam)
    for name, shape in _self_cache(weights, beam).items():
        graph.output(grown[name], f"{name}_grown", "float32", shape)
    return blocks


def select_graph(weights: TransformerWeights, beam: int) -> OnnxGraph:
    """Returns the graph that keeps some sentences of a batch and drops the others from all caches."""
    graph = OnnxGraph("select")
    rows = graph.input("rows", "int64", ["kept"])
    shapes: dict[str, list[str | int]] = {
        **_self_cache(weights, beam),
        **_cross_cache(weights),
        "cross_mask": ["batch", "length"],
    }
    for name, shape in shapes.items():
        dtype = "int32" if name == "cross_mask" else "float32"
        kept = graph.add("Gather", graph.input(name, dtype, shape), rows, axis=0)
        graph.output(kept, f"{name}_kept", dtype, ["kept", *shape[1:]])
    return graph


def _self_cache(weights: TransformerWeights, beam: int) -> dict[str, list[str | int]]:
    shapes: dict[str, list[str | int]] = {"ancestry": ["batch", 1, beam, "written"]}
    for index, layer in enumerate(weights.decoder):
        for kind in ("key", "value"):
            shapes[f"{kind}_{index}"] = ["batch", layer.attention.heads, "written", weights.head_size]
    return shapes


def _cross_cache(weights: TransformerWeights) -> dict[str, list[str | int]]:
    shapes: dict[str, list[str | int]] = {}
    for index, layer in enumerate(weights.decoder):
        for kind in ("key", "value"):
            shapes[f"cross_{kind}_{index}"] = ["batch", layer.cross.heads, "length", weights.head_size]
    return shapes


def _embed(graph: OnnxGraph, weights: TransformerWeights, tokens: str, position: str) -> str:
    embedded = graph.add("Gather", graph.constant(weights.embedding), graph.add("Reshape", tokens, graph.ints(-1)))
    return graph.add("Add", embedded, graph.add("Gather", graph.constant(weights.positions), position))


def _next_ancestry(graph: OnnxGraph, ancestry: str, parents: str, beam: int) -> str:
    rows = graph.add("Squeeze", ancestry, graph.ints(1))
    inherited = graph.add("GatherND", rows, graph.add("Unsqueeze", parents, graph.ints(2)), batch_dims=1)
    inherited = graph.add("Unsqueeze", inherited, graph.ints(1))
    batch = graph.add("Slice", graph.add("Shape", parents), graph.ints(0), graph.ints(1))
    shape = graph.add("Concat", batch, graph.ints(1, 1, 1), axis=0)
    itself = graph.add("Expand", graph.constant(own_ancestry(beam)), shape)
    return graph.add("Concat", inherited, itself, axis=3)


def _best_continuations(graph: OnnxGraph, logits: str, alive: str, beam: int) -> None:
    """Appends the choice of the best `2 * beam` continuations of each sentence, and the scores of ending now."""
    wanted = 2 * beam
    logits = graph.add("LogSoftmax", logits, axis=-1)
    best, tokens = graph.add_many("TopK", logits, graph.ints(wanted), outputs=2, axis=1)
    so_far = graph.add("Reshape", alive, graph.ints(-1, 1))
    scores = graph.add("Reshape", graph.add("Add", best, so_far), graph.ints(-1, beam * wanted))
    scores, ranks = graph.add_many("TopK", scores, graph.ints(wanted), outputs=2, axis=1)
    tokens = graph.add("GatherElements", graph.add("Reshape", tokens, graph.ints(-1, beam * wanted)), ranks, axis=1)
    end = graph.add("Slice", logits, graph.ints(END), graph.ints(END + 1), graph.ints(1))
    end = graph.add("Reshape", graph.add("Add", end, so_far), graph.ints(-1, beam))
    graph.output(scores, "scores", "float32", ["batch", wanted])
    graph.output(tokens, "continuations", "int64", ["batch", wanted])
    graph.output(graph.add("Div", ranks, graph.ints(wanted)), "origins", "int64", ["batch", wanted])
    graph.output(end, "end_scores", "float32", ["batch", beam])
