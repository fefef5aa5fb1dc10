"""Lowers a Transformer to a rewritten TensorFlow graph: folded constants, joined products, a cache never re-ordered."""

from pathlib import Path

import numpy as np

from optops.graph.lowering import Lowering, check_plan
from optops.graph.tensorflow_graph import count_nodes
from optops.graph.transformer_serving import executable_info, load_trained
from optops.graph.transformer_tensorflow_blocks import SMALL_ATTENTIONS
from optops.graph.transformer_tensorflow_search import RewrittenSearch
from optops.models.keras import tf
from optops.models.transformer.weights import fold_norms, read_weights
from optops.precision import PrecisionPlan
from optops.runtimes.tensorflow import SAVED_MODEL

NOTES = [
    "weights are constants",
    "scale, offset and mean of every layer normalisation folded into the products around it",
    "query, key and value of self-attention in one product; keys and values of all attentions over the source in one",
    "hypotheses attend to the keys of their whole sentence under an ancestry bias, so no cache is re-ordered",
    SMALL_ATTENTIONS,
    "continuations chosen per hypothesis before they are compared; no log-softmax over the vocabulary is written",
]


def lower(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes a rewritten SavedModel for runtime `tensorflow`.

    Raises:
        LoweringError: If the plan does not fit the model.
    """
    model, settings = load_trained(trainable)
    weights = fold_norms(read_weights(model))
    check_plan(plan, model)
    search = RewrittenSearch(weights, plan, settings)
    signature = search.serve.get_concrete_function()
    tf.saved_model.save(tf.Module(), str(folder / SAVED_MODEL), signatures={"serving_default": signature})
    facts: dict[str, float | str] = {
        "nodes": count_nodes(signature.graph.as_graph_def()),
        "parts_bf16": int(np.sum([precision == "bf16" for precision in plan.parts.values()])),
    }
    executable_info("tensorflow", plan.precision, model.config, settings, facts).save(folder)
    return Lowering(facts, NOTES + [f"{name} stays in fp32: {why}" for name, why in sorted(plan.notes.items())])
