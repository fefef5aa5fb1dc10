"""The feature losses against float64 references."""

import numpy as np
import pytest

from optops.compression.distillation.features import (
    LastLayerRelations,
    LayerByLayer,
    attention_divergence,
    attention_transfer,
    relation_divergence,
    state_transfer,
    uniform_map,
)
from optops.models.keras import keras, tf
from optops.models.transformer.config import TransformerConfig
from optops.models.transformer.model import Transformer

RANDOM = np.random.default_rng(0)
QUERIES = np.array([[5, 6, 7], [5, 0, 0]], np.int32)
KEYS = np.array([[5, 6, 7, 8], [5, 6, 0, 0]], np.int32)
BATCH = {
    "source": np.array([[5, 6, 7, 2], [8, 2, 0, 0]], np.int32),
    "target": np.array([[1, 9, 4], [1, 0, 0]], np.int32),
    "labels": np.array([[9, 4, 2], [2, 0, 0]], np.int32),
}


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def maps(heads):
    scores = RANDOM.normal(scale=2, size=(2, heads, 3, 4))
    return softmax(np.where(KEYS[:, None, None, :] == 0, -1e9, scores))


def constant(array):
    return tf.constant(array, tf.float32)


def model(seed=1, dropout=0.0, **changes):
    sizes = {"width": 16, "heads": 2, "feed_forward": 32, "encoder_layers": 2, "decoder_layers": 2} | changes
    keras.utils.set_random_seed(seed)
    return Transformer(TransformerConfig.uniform(vocabulary=12, max_positions=8, dropout=dropout, **sizes))


def features(of):
    return of.features({name: tf.constant(BATCH[name]) for name in ("source", "target")})


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [(1, 4, (3,)), (2, 4, (1, 3)), (3, 4, (1, 2, 3)), (4, 4, (0, 1, 2, 3)), (2, 1, (0, 0)), (2, 12, (5, 11))],
)
def test_layers_imitate_the_last_of_their_even_share(student, teacher, expected):
    assert uniform_map(student, teacher) == expected


def test_attention_transfer_equals_the_reference_for_uneven_heads():
    student, teacher = maps(2), maps(4)

    def normalised(values):
        energy = (values**2).sum(1) * (QUERIES != 0)[:, :, None]
        return energy / np.sqrt((energy**2).sum((1, 2), keepdims=True))

    expected = ((normalised(student) - normalised(teacher)) ** 2).sum((1, 2)).mean()
    value = attention_transfer(constant(student), constant(teacher), tf.constant(QUERIES))
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_state_transfer_is_the_share_of_the_teachers_energy_that_is_missed():
    student, teacher = RANDOM.normal(size=(2, 2, 3, 8))
    rows = (QUERIES != 0)[:, :, None]
    expected = (((student - teacher) ** 2) * rows).sum() / ((teacher**2) * rows).sum()
    value = state_transfer(constant(student), constant(teacher), tf.constant(QUERIES))
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_the_divergence_of_attention_maps_equals_the_reference():
    student, teacher = maps(2), maps(2)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(teacher > 0, teacher * np.log(teacher / student), 0).sum(-1)
    rows = np.broadcast_to((QUERIES != 0)[:, None, :], terms.shape)
    value = attention_divergence(constant(student), constant(teacher), tf.constant(QUERIES))
    assert float(value) == pytest.approx((terms * rows).sum() / rows.sum(), rel=1e-4)


def test_the_divergence_of_value_relations_equals_the_reference_whatever_the_head_size():
    student, teacher = RANDOM.normal(size=(2, 2, 4, 6)), RANDOM.normal(size=(2, 2, 4, 3))

    def relations(values):
        scores = values @ values.transpose(0, 1, 3, 2) / np.sqrt(values.shape[-1])
        return softmax(np.where(KEYS[:, None, None, :] == 0, -1e9, scores))

    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(relations(teacher) / relations(student))
    terms = np.where(relations(teacher) > 0, relations(teacher) * ratio, 0).sum(-1)
    rows = np.broadcast_to((KEYS != 0)[:, None, :], terms.shape)
    value = relation_divergence(constant(student), constant(teacher), tf.constant(KEYS))
    assert float(value) == pytest.approx((terms * rows).sum() / rows.sum(), rel=1e-4)


@pytest.mark.parametrize("kind", [LayerByLayer, LastLayerRelations])
def test_a_student_equal_to_its_teacher_loses_nothing_and_gets_no_gradient(kind):
    teacher = model()
    student = model()
    student.set_weights(teacher.get_weights())
    with tf.GradientTape() as tape:
        value = kind(teacher.config, student.config)(features(student), features(teacher), BATCH)
    assert float(value) == pytest.approx(0, abs=1e-6)
    for gradient in tape.gradient(value, student.trainable_variables, unconnected_gradients="zero"):
        np.testing.assert_allclose(tf.convert_to_tensor(gradient), 0, atol=1e-5)


@pytest.mark.parametrize("kind", [LayerByLayer, LastLayerRelations])
def test_no_gradient_flows_into_the_teacher(kind):
    teacher, student = model(1), model(2, encoder_layers=1)
    with tf.GradientTape() as tape:
        value = kind(teacher.config, student.config)(features(student), features(teacher), BATCH)
    assert float(value) > 0.001
    assert all(gradient is None for gradient in tape.gradient(value, teacher.trainable_variables))


@pytest.mark.parametrize("kind", [LayerByLayer, LastLayerRelations])
def test_what_stands_at_padding_does_not_matter(kind):
    teacher, student = model(1), model(2)
    longer = {name: np.pad(ids, [[0, 0], [0, 2]]) for name, ids in BATCH.items()}

    def loss(batch):
        inputs = {name: tf.constant(batch[name]) for name in ("source", "target")}
        return float(kind(teacher.config, student.config)(student.features(inputs), teacher.features(inputs), batch))

    assert loss(longer) == pytest.approx(loss(BATCH), rel=1e-5)


def test_states_of_another_width_go_through_a_projection_that_learns():
    teacher, student = model(1), model(2, width=8)
    loss = LayerByLayer(teacher.config, student.config)
    assert [tuple(variable.shape) for variable in loss.variables] == [(8, 16)]
    with tf.GradientTape() as tape:
        value = loss(features(student), features(teacher), BATCH)
    assert np.abs(tape.gradient(value, loss.variables[0]).numpy()).max() > 0
    assert not LayerByLayer(teacher.config, model(3).config).variables


def test_relations_of_unequal_heads_are_refused():
    with pytest.raises(ValueError, match=r"encoder_1/self_attention has 4 heads, the teacher's .* 2; give the student"):
        LastLayerRelations(model(1).config, model(2, heads=4).config)
