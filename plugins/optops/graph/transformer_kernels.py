"""Lowers a Transformer to the operator library: one operator translates a batch, its weights are one variable."""

from pathlib import Path

from optops.graph.lowering import Lowering, LoweringError, check_plan
from optops.graph.transformer_serving import executable_info, load_trained, tensor_limits
from optops.kernels import KernelsUnavailableError, PackedTranslator, instruction_set
from optops.kernels.arrays import Precision
from optops.kernels.tensorflow import translate
from optops.models.keras import tf
from optops.models.token_ids import PADDING
from optops.models.transformer.search import SearchSettings
from optops.models.transformer.weights import read_weights
from optops.precision import PrecisionPlan
from optops.runtimes.tensorflow import SAVED_MODEL

RUNTIME = "tensorflow+kernels"
NOTES = [
    "encoder, decoder and beam search are one operator of the library `optops.kernels`",
    "weights are packed in panels of 64 outputs, as one variable",
    "padding is not computed; keys and values of the source are computed once per sentence",
    "hypotheses find their keys by their ancestors, so no cache is re-ordered",
    "the best outputs are chosen as logits are computed, so none are written",
]


def lower(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes a SavedModel for the runtime `tensorflow+kernels`.

    Raises:
        LoweringError: If the plan does not fit the model, or the library is not installed.
    """
    model, settings = load_trained(trainable)
    check_plan(plan, model)

    def precision_of(name: str) -> Precision:
        return plan.parts.get(name, "fp32")  # type: ignore[return-value]

    try:
        packed = PackedTranslator.from_weights(read_weights(model, scaled_queries=False), precision_of)
        module = _Translator(packed, settings)
    except KernelsUnavailableError as error:
        raise LoweringError(str(error)) from error
    signature = module.serve.get_concrete_function()
    tf.saved_model.save(module, str(folder / SAVED_MODEL), signatures={"serving_default": signature})
    facts: dict[str, float | str] = {
        "weight_bytes": int(module.weights.shape[0]),
        "instruction_set": instruction_set(),
        **{
            f"parts_{precision}": sum(part == precision for part in plan.parts.values())
            for precision in sorted({plan.precision, *plan.parts.values()} - {"fp32"})
        },
    }
    executable_info(RUNTIME, plan.precision, model.config, settings, facts).save(folder)
    return Lowering(facts, NOTES + [f"{name} stays in fp32: {why}" for name, why in sorted(plan.notes.items())])


class _Translator(tf.Module):
    """Token ids in, token ids and scores out, in one operator."""

    def __init__(self, packed: PackedTranslator, settings: SearchSettings) -> None:
        super().__init__()
        self.weights = tf.Variable(packed.to_bytes(), trainable=False, name="packed_weights")
        self.settings = settings

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="ids")])
    def serve(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns `ids` int32 [b, out] and `scores` float32 [b] for `ids` int32 [b, s]."""
        settings = self.settings
        lengths = tf.reduce_sum(tf.cast(tf.not_equal(ids, PADDING), tf.int32), axis=1)
        limits = tensor_limits(settings, lengths)
        found = translate(
            ids, lengths, limits, self.weights, beam=settings.beam, length_penalty=settings.length_penalty
        )
        return {"ids": found.ids[:, 0], "scores": found.scores[:, 0]}
