"""The Transformer model, its gates, and the smaller models cut out of it."""

import numpy as np
import pytest

from optops.models.base import load_architecture
from optops.models.keras import keras, tf
from optops.models.transformer.config import DecoderLayerSize, LayerSize, TransformerConfig
from optops.models.transformer.model import Transformer
from optops.models.transformer.search import SearchSettings
from optops.models.transformer.slicing import from_teacher, shrink

RECIPE = {"vocabulary": 30, "width": 16, "heads": 4, "feed_forward": 24, "encoder_layers": 3, "decoder_layers": 2}
INPUTS = {
    "source": tf.constant([[4, 5, 6, 2, 0, 0], [7, 8, 9, 10, 11, 2]]),
    "target": tf.constant([[1, 5, 6, 9], [1, 3, 4, 0]]),
}


@pytest.fixture(scope="module")
def model() -> Transformer:
    keras.utils.set_random_seed(0)
    built = load_architecture("transformer").build(RECIPE)
    generator = np.random.default_rng(0)
    for weight in built.weights:
        weight.assign(weight + generator.normal(0, 0.1, weight.shape))
    return built


def test_no_position_sees_a_later_one_or_padding(model):
    logits = model(INPUTS).numpy()
    later = model({**INPUTS, "target": tf.constant([[1, 5, 6, 20], [1, 3, 4, 20]])}).numpy()
    shorter = model({"source": INPUTS["source"][:1, :4], "target": INPUTS["target"][:1]}).numpy()
    np.testing.assert_allclose(logits[:, :3], later[:, :3], atol=1e-5)
    assert np.abs(logits[:, 3] - later[:, 3]).max() > 1e-2
    np.testing.assert_allclose(logits[:1], shorter, atol=1e-5)


def test_encode_then_decode_is_a_call(model):
    memory = model.encode(INPUTS["source"])
    np.testing.assert_allclose(model.decode(INPUTS["target"], memory, INPUTS["source"]), model(INPUTS), atol=1e-6)


def test_features_name_every_attention_and_layer(model):
    features = model.features(INPUTS)
    assert {name: tuple(maps.shape) for name, maps in features.attention.items()} == {
        **{f"encoder_{index}/self_attention": (2, 4, 6, 6) for index in range(3)},
        **{f"decoder_{index}/self_attention": (2, 4, 4, 4) for index in range(2)},
        **{f"decoder_{index}/cross_attention": (2, 4, 4, 6) for index in range(2)},
    }
    assert features.hidden["encoder_2"].shape == (2, 6, 16)
    assert features.hidden["decoder_1"].shape == features.hidden["target_embedding"].shape == (2, 4, 16)


def test_every_gate_of_one_changes_nothing_and_has_a_gradient(model):
    gates = {name: tf.ones([count]) for name, count in model.config.units().items()}
    with tf.GradientTape() as tape:
        tape.watch(gates)
        logits = model.features(INPUTS, gates=gates).logits
        loss = tf.reduce_sum(tf.square(logits))
    np.testing.assert_allclose(logits, model(INPUTS), atol=1e-6)
    gradients = tape.gradient(loss, gates)
    assert set(gradients) == set(model.config.units())
    assert all(np.abs(gradient).max() > 0 for gradient in gradients.values())


def test_a_shrunk_model_equals_the_masked_one(model):
    keep = {
        "encoder_0/self_attention": [3, 1],
        "encoder_2/feed_forward": [0, 5, 23],
        "decoder_0/self_attention": [2],
        "decoder_1/cross_attention": [0, 2, 3],
        "decoder_1/feed_forward": list(range(0, 24, 2)),
    }
    units = model.config.units()
    gates = {name: tf.constant(np.isin(np.arange(units[name]), kept), tf.float32) for name, kept in keep.items()}
    small = shrink(model, keep)
    np.testing.assert_allclose(small(INPUTS), model.features(INPUTS, gates=gates).logits, atol=1e-5)
    assert small.config.encoder[0] == LayerSize(2, 24)
    assert small.config.decoder[1] == DecoderLayerSize(4, 3, 12)
    assert small.count_params() < model.count_params()


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"encoder_9/feed_forward": [0]}, "encoder_9/feed_forward"),
        ({"encoder_0/self_attention": []}, "at least one"),
        ({"encoder_0/self_attention": [4]}, "units 0 to 3"),
        ({"encoder_0/self_attention": [1, 1]}, "each once"),
    ],
)
def test_shrinking_to_what_is_not_there_is_refused(model, keep, message):
    with pytest.raises(ValueError, match=message):
        shrink(model, keep)


def test_a_student_starts_with_evenly_spaced_layers(model):
    student = from_teacher(model, TransformerConfig.from_mapping({**RECIPE, "encoder_layers": 2, "decoder_layers": 1}))
    theirs = {weight.name: weight.numpy() for weight in model.weights}
    ours = {weight.name: weight.numpy() for weight in student.weights}
    for mine, origin in (("encoder_0", "encoder_0"), ("encoder_1", "encoder_2"), ("decoder_0", "decoder_0")):
        for part in ("self_attention/query/kernel:0", "feed_forward/contract/bias:0", "self_attention_norm/beta:0"):
            np.testing.assert_array_equal(ours[f"transformer/{mine}/{part}"], theirs[f"transformer/{origin}/{part}"])
    np.testing.assert_array_equal(ours["transformer/decoder_norm/beta:0"], theirs["transformer/decoder_norm/beta:0"])


def test_a_narrower_student_gets_the_units_with_the_largest_norms(model):
    sizes = model.config.units() | {"encoder_0/feed_forward": 3, "decoder_0/cross_attention": 1}
    student = from_teacher(model, model.config.with_units(sizes))
    kernel = model.encoder_layers[0].feed_forward.contract.kernel.numpy()
    strongest = np.sort(np.argsort(-np.linalg.norm(kernel, axis=1))[:3])
    np.testing.assert_array_equal(student.encoder_layers[0].feed_forward.contract.kernel, kernel[strongest])


def test_a_student_that_does_not_fit_its_teacher_is_refused(model):
    with pytest.raises(ValueError, match="width is 32"):
        from_teacher(model, TransformerConfig.from_mapping({**RECIPE, "width": 32, "heads": 8}))
    with pytest.raises(ValueError, match="4 encoder layers"):
        from_teacher(model, TransformerConfig.from_mapping({**RECIPE, "encoder_layers": 4}))
    with pytest.raises(ValueError, match="more than the teacher's 24"):
        from_teacher(model, TransformerConfig.from_mapping({**RECIPE, "feed_forward": 48}))


def test_saved_weights_come_back(model, tmp_path):
    architecture = load_architecture("transformer")
    small = shrink(model, {"encoder_0/self_attention": [1]})
    architecture.save(small, tmp_path, {"beam": 2})
    np.testing.assert_array_equal(architecture.load(tmp_path)(INPUTS), small(INPUTS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "3 heads do not divide the width 16"),
        ({"width": 15, "heads": 5}, "even"),
        ({"vocabulary": 4}, "must exceed"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"encoder_layers": 0}, "encoder has no layers"),
        ({"feed_forward": 0}, "feed_forward is 0"),
        ({"depth": 3}, "depth unknown"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig.from_mapping({**RECIPE, **change})


def test_a_config_survives_json():
    config = TransformerConfig.from_mapping(RECIPE).with_units({"decoder_1/cross_attention": 2})
    assert TransformerConfig.from_mapping(config.to_json()) == config


def test_limits_follow_each_sentence_and_stop_at_the_largest():
    settings = SearchSettings(max_length_factor=1.5, max_length_offset=0, max_length=20)
    assert settings.limits(np.array([1, 3, 10, 19])).tolist() == [1, 4, 15, 20]
    with pytest.raises(ValueError, match="beam is 0"):
        SearchSettings(beam=0)
