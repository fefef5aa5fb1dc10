"""The layers that are left out are those that the model misses least."""

import numpy as np
import pytest

from optops.compression import drop_layers
from optops.models.keras import keras
from optops.models.transformer.config import TransformerConfig
from optops.models.transformer.model import Transformer
from optops.models.transformer.slicing import keep_layers

BATCH = {
    "source": np.array([[5, 6, 2, 0], [7, 4, 8, 2], [6, 2, 0, 0]], np.int32),
    "target": np.array([[1, 6, 5], [1, 8, 0], [1, 0, 0]], np.int32),
    "labels": np.array([[6, 5, 2], [8, 2, 0], [2, 0, 0]], np.int32),
}


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    sizes = {"vocabulary": 12, "width": 16, "heads": 2, "feed_forward": 32, "encoder_layers": 3, "decoder_layers": 3}
    return Transformer(TransformerConfig.uniform(**sizes, dropout=0.5))


def loss(model):
    """Cross-entropy per token in float64."""
    logits = model(BATCH).numpy().astype(np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    mask = BATCH["labels"] != 0
    return -(np.take_along_axis(logs, BATCH["labels"][..., None], -1)[..., 0] * mask).sum() / mask.sum()


def test_the_layers_without_which_the_loss_is_lowest_go_one_after_the_other(model):
    before = [array.copy() for array in model.get_weights()]
    expected = min((keep_layers(model, encoder=kept) for kept in ([1, 2], [0, 2], [0, 1])), key=loss)
    for _ in range(2):
        layers = range(len(expected.config.decoder))
        shallower = [keep_layers(expected, decoder=[kept for kept in layers if kept != gone]) for gone in layers]
        expected = min(shallower, key=loss)
    small = drop_layers(model, encoder=1, decoder=2, batches=[BATCH])
    assert (len(small.config.encoder), len(small.config.decoder)) == (2, 1)
    assert small.count_params() < model.count_params()
    np.testing.assert_allclose(small(BATCH).numpy(), expected(BATCH).numpy(), atol=1e-6)
    for array, after in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(array, after)


def test_leaving_out_a_layer_that_adds_nothing_changes_nothing(model):
    for weight in model.weights:
        if "/encoder_1/" in weight.name and ("/output/" in weight.name or "/contract/" in weight.name):
            weight.assign(np.zeros(weight.shape, np.float32))
    np.testing.assert_allclose(keep_layers(model, encoder=[0, 2])(BATCH), model(BATCH), atol=1e-6)


def test_kept_layers_keep_their_weights_and_their_own_sizes(model):
    kept = keep_layers(model, encoder=[2], decoder=[0, 2])
    for new, old in (("encoder_0", "encoder_2"), ("decoder_0", "decoder_0"), ("decoder_1", "decoder_2")):
        name = "feed_forward/expand/kernel:0"
        np.testing.assert_array_equal(
            next(w for w in kept.weights if w.name == f"transformer/{new}/{name}").numpy(),
            next(w for w in model.weights if w.name == f"transformer/{old}/{name}").numpy(),
        )
    with pytest.raises(ValueError, match=r"the encoder has layers 0 to 2; keep some, not \[3\]"):
        keep_layers(model, encoder=[3])


def test_a_stack_is_never_emptied(model):
    with pytest.raises(ValueError, match="3 of 3 decoder layers to leave out; at least one must stay"):
        drop_layers(model, decoder=3, batches=[BATCH])
    with pytest.raises(ValueError, match="no batches"):
        drop_layers(model, decoder=1, batches=[])
