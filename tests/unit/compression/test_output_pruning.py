"""Outputs that no target uses cost nothing any more, and nothing else changes."""

import numpy as np
import pytest

from optops.compression import drop_unused_outputs
from optops.compression.distillation.losses import DistillationLoss, DistillationSettings, soft_loss
from optops.models.keras import keras, tf
from optops.models.transformer.config import TransformerConfig
from optops.models.transformer.model import Transformer
from optops.models.transformer.slicing import from_teacher, shrink


def batch(last):
    return {
        "source": np.array([[50, 61, 2, 0], [7, 4, 8, 2]], np.int32),
        "target": np.array([[1, 6, last], [1, 8, 0]], np.int32),
        "labels": np.array([[6, last, 2], [8, 2, 0]], np.int32),
    }


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    sizes = {"vocabulary": 64, "width": 16, "heads": 2, "feed_forward": 32, "encoder_layers": 1, "decoder_layers": 1}
    return Transformer(TransformerConfig.uniform(**sizes))


@pytest.mark.parametrize(("least", "outputs"), [(1, 16), (16, 16), (17, 32), (99, 64)])
def test_as_many_outputs_stay_as_are_asked_for(model, least, outputs):
    assert drop_unused_outputs(model, [batch(9)], least=least).config.outputs == outputs


@pytest.mark.parametrize(("last", "outputs"), [(9, 16), (15, 16), (16, 32), (40, 48), (63, 64)])
def test_the_outputs_end_with_the_last_used_one_rounded_up(model, last, outputs):
    cut = drop_unused_outputs(model, [batch(5), batch(last), batch(7)])
    assert cut.config.outputs == outputs
    assert cut.config.vocabulary == 64
    whole, part = model(batch(9)), cut(batch(9))
    assert part.shape[-1] == outputs
    np.testing.assert_array_equal(whole[..., :outputs], part)


def test_pruned_further_or_taken_as_a_teacher_a_cut_model_stays_cut(model):
    cut = drop_unused_outputs(model, [batch(9)])
    assert shrink(cut, {"decoder_0/feed_forward": range(16)}).config.outputs == 16
    assert from_teacher(model, cut.config).config.outputs == 16


def test_a_cut_student_learns_from_what_its_whole_teacher_says_of_the_words_it_has(model):
    cut = drop_unused_outputs(model, [batch(9)])
    loss = DistillationLoss(model, cut, DistillationSettings(alpha=1.0), label_smoothing=0.0)
    tensors = {name: tf.constant(array) for name, array in batch(9).items()}
    _, scalars = loss(cut, tensors, 0.0)
    # Dropout makes the student's logits other than those of `cut(...)`; the teacher's are what is compared here.
    keras.utils.set_random_seed(1)
    expected = soft_loss(tensors["labels"], cut(tensors), model(tensors)[..., :16], 1.0)
    assert float(expected) == pytest.approx(0, abs=1e-6)
    assert 0 < float(scalars["soft"]) < 1


def test_without_batches_nothing_is_known(model):
    with pytest.raises(ValueError, match="no batches; give all training data"):
        drop_unused_outputs(model, [])
