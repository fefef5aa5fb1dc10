"""Importance is the first-order effect of taking a unit away; pruning makes the model smaller and it recovers."""

import numpy as np
import pytest

from optops.compression import prune
from optops.compression.pruning.importance import importance
from optops.models.keras import keras, tf
from optops.models.training.losses import token_cross_entropy
from optops.models.transformer.config import TransformerConfig
from optops.models.transformer.model import Transformer
from optops.models.transformer.slicing import shrink

BATCH = {
    "source": np.array([[5, 6, 2, 0], [7, 4, 8, 2], [6, 2, 0, 0]], np.int32),
    "target": np.array([[1, 6, 5], [1, 8, 0], [1, 0, 0]], np.int32),
    "labels": np.array([[6, 5, 2], [8, 2, 0], [2, 0, 0]], np.int32),
}
ATTENTION = "decoder_0/cross_attention"


def weight(model, name):
    return next(weight for weight in model.weights if weight.name == f"transformer/{name}:0")


def scale_head(model, group, head, factor):
    """Multiplies what one head adds to the residual stream."""
    kernel, size = weight(model, f"{group}/output/kernel"), model.config.head_size
    values = kernel.numpy()
    values[head * size : (head + 1) * size] *= factor
    kernel.assign(values)


def example_losses(model, gates):
    logits = model.features(BATCH, False, gates).logits
    mask = BATCH["labels"] != 0
    return (token_cross_entropy(BATCH["labels"], logits, 0.0).numpy() * mask).sum(axis=1) / mask.sum(axis=1)


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    sizes = {"vocabulary": 12, "width": 16, "heads": 4, "feed_forward": 32, "encoder_layers": 1, "decoder_layers": 1}
    return Transformer(TransformerConfig.uniform(**sizes, dropout=0.5))


def test_importance_equals_finite_differences_per_example(model):
    measured = importance(model, [BATCH])
    assert {name: len(values) for name, values in measured.items()} == model.config.units()
    step = 0.002  # small, lest a ReLU switches in between
    for name, unit in [(ATTENTION, 3), ("encoder_0/self_attention", 1), ("decoder_0/feed_forward", 5)]:
        losses = []
        for sign in (1, -1):
            gate = 1.0 + sign * step * tf.one_hot(unit, model.config.units()[name])
            losses.append(example_losses(model, {name: gate}))
        expected = np.abs((losses[0] - losses[1]) / (2 * step)).mean()
        assert measured[name][unit] == pytest.approx(expected, rel=0.02, abs=1e-4)


def test_importance_does_not_depend_on_how_examples_are_batched(model):
    rows = [{name: array[index : index + 1] for name, array in BATCH.items()} for index in range(3)]
    together, alone = importance(model, [BATCH]), importance(model, rows)
    for name, values in together.items():
        np.testing.assert_allclose(values, alone[name], rtol=1e-4, atol=1e-7)


def test_heads_are_ranked_as_taking_them_away_ranks_them(model):
    for head, factor in enumerate([0.0, 0.1, 3.0, 0.6]):
        scale_head(model, ATTENTION, head, factor)
    measured = importance(model, [BATCH])[ATTENTION]
    whole = example_losses(model, {})
    ablated = []
    for head in range(4):
        gates = {ATTENTION: 1.0 - tf.one_hot(head, 4)}
        ablated.append(np.abs(example_losses(model, gates) - whole).mean())
    assert measured[0] == 0
    assert np.argsort(measured).tolist() == np.argsort(ablated).tolist() == [0, 1, 3, 2]


def test_useless_heads_are_the_ones_removed_and_the_output_stays(model):
    scale_head(model, ATTENTION, 2, 0.0)
    scale_head(model, "decoder_0/self_attention", 1, 0.0)
    scale_head(model, "encoder_0/self_attention", 0, 0.0)
    small = prune(model, heads=0.25, feed_forward=0.0, batches=[BATCH])
    assert small.count_params() < model.count_params()
    assert [size for name, size in small.config.units().items() if "attention" in name] == [3, 3, 3]
    np.testing.assert_allclose(small(BATCH).numpy(), model(BATCH).numpy(), atol=1e-5)
    np.testing.assert_array_equal(
        weight(small, f"{ATTENTION}/query/kernel").numpy(),
        weight(shrink(model, {ATTENTION: [0, 1, 3]}), f"{ATTENTION}/query/kernel").numpy(),
    )


def test_no_data_is_an_error(model):
    with pytest.raises(ValueError, match="no batches to measure importance on"):
        importance(model, [])


def test_a_pruned_model_is_smaller_and_fine_tuning_brings_it_back(reversing, tmp_path):
    assert reversing.history.validation > 0.95
    before = [array.copy() for array in reversing.model.get_weights()]
    small = prune(reversing.model, heads=0.3, feed_forward=0.5, batches=list(reversing.train(1))[:4])
    for array, weight in zip(before, reversing.model.get_weights(), strict=True):
        np.testing.assert_array_equal(array, weight)
    units = small.config.units()
    assert sum(size for name, size in units.items() if name.endswith("feed_forward")) == 64
    assert sum(size for name, size in units.items() if name.endswith("attention")) == 4
    assert small.count_params() < 0.75 * reversing.model.count_params()
    pruned = reversing.accuracy(small)
    history = reversing.learn(small, tmp_path, epochs=3, learning_rate=3e-3)
    assert history.validation > max(pruned, 0.95)
