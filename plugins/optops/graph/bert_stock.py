"""The baseline of a BERT: the model as its authors would serve it, an unchanged SavedModel."""

from pathlib import Path
from typing import Any

from optops.graph.bert_serving import executable_info, load_trained
from optops.graph.lowering import Lowering, LoweringError
from optops.graph.tensorflow_graph import count_nodes
from optops.models.bert.model import Bert
from optops.models.keras import tf
from optops.precision import PrecisionPlan
from optops.runtimes.tensorflow import SAVED_MODEL


def export(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes a SavedModel of the model as it is, for runtime `tensorflow`.

    Raises:
        LoweringError: If the plan asks for anything but fp32.
    """
    if plan.precision != "fp32":
        raise LoweringError(f"the stock export runs in fp32, not in {plan.precision}")
    model, serving = load_trained(trainable)
    signature = stock_function(model).get_concrete_function()
    # Saved with its variables only: Keras would trace every layer once more, for callers that do not exist.
    module = tf.Module()
    module.weights = model.weights
    tf.saved_model.save(module, str(folder / SAVED_MODEL), signatures={"serving_default": signature})
    facts: dict[str, float | str] = {"nodes": count_nodes(signature.graph.as_graph_def())}
    executable_info("tensorflow", "fp32", model.config, serving, facts).save(folder)
    return Lowering(facts, ["the model as it is"])


def stock_function(model: Bert) -> Any:
    """Returns a traced function from ids int32 [b, s] to `probabilities` float32 [b, classes]."""

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="ids")])
    def serve(ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(model({"ids": ids}, training=False))}

    return serve
