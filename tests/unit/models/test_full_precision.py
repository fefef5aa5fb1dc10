"""Models that were trained in mixed precision are lowered as what they are in float32."""

import numpy as np
import pytest

from optops.compression import quantize
from optops.graph.lowering import LoweringError, lower
from optops.models.base import load_architecture
from optops.models.functional.folding import fold_batch_norms
from optops.models.keras import keras, tf
from optops.precision import PrecisionPlan
from optops.runtimes import load_executable

L = keras.layers
POLICIES = ("mixed_float16", "mixed_bfloat16")
IMAGES = np.random.default_rng(1).random((4, 8, 8, 3)).astype(np.float32)


def network(policy, inverted=True):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        x = keras.Input([8, 8, 3], name="image")
        y = L.ReLU()(L.BatchNormalization()(L.Conv2D(16, 3, use_bias=False)(x)))
        gate = L.Conv2D(16, 1, activation="sigmoid")(y)
        y = L.SeparableConv2D(16, 3, padding="same", activation="gelu")(gate * y + (1.0 - gate if inverted else y))
        y = L.Bidirectional(L.LSTM(4))(L.Reshape((36, 16))(y))
        return keras.Model(
            x,
            {
                "classes": L.Softmax(dtype="float32", name="classes")(L.Dense(3)(y)),
                "side": L.Dense(2, name="side")(y),
            },
        )
    finally:
        keras.mixed_precision.set_global_policy(before)


def pair(policy, inverted):
    """Returns a model in mixed precision, and the same one in float32."""
    mixed, whole = network(policy, inverted), network("float32", inverted)
    random = np.random.default_rng(2)
    weights = [random.uniform(0.2, 0.6, array.shape) for array in whole.get_weights()]
    for model in (mixed, whole):
        model.set_weights(weights)
    return mixed, whole


@pytest.mark.parametrize("policy", POLICIES)
def test_the_canonical_form_computes_in_float32(policy):
    mixed, whole = pair(policy, inverted=True)
    canonical = fold_batch_norms(mixed)
    assert {layer.dtype_policy.name for layer in canonical.layers} == {"float32"}
    for name, expected in whole(IMAGES).items():
        np.testing.assert_allclose(canonical(IMAGES)[name], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("policy", POLICIES)
def test_an_output_in_half_precision_keeps_its_type_in_what_serves_it(policy, tmp_path):
    # Without the constant: Keras does not read it back in the type that it has in mixed precision.
    mixed, whole = pair(policy, inverted=False)
    load_architecture("functional").save(mixed, tmp_path / "trainable", {})
    info = lower(tmp_path / "trainable", PrecisionPlan("fp32"), "tensorflow", tmp_path / "serving").facts
    given = load_executable(tmp_path / "serving", 1)({"image": IMAGES})
    assert info["convolutions_fused"] > 0
    assert given["side"].dtype == mixed.output["side"].dtype.as_numpy_dtype
    np.testing.assert_allclose(given["classes"], whole(IMAGES)["classes"], rtol=1e-4, atol=1e-5)


def test_a_network_in_mixed_precision_is_quantised(tmp_path):
    mixed = network("mixed_float16", inverted=False)
    classes = keras.Model(mixed.input, tf.nest.flatten(mixed.output)[0])
    quantized = quantize(classes, [{"image": IMAGES}])
    assert "int8" in quantized.plan.parts.values()
    quantized.export(tmp_path, "onnxruntime")
    (given,) = load_executable(tmp_path, 1)({"image": IMAGES}).values()
    np.testing.assert_allclose(given, classes(IMAGES), atol=0.02)
    # All that could be in int8 leads to the recurrent layer.
    with pytest.raises(LoweringError, match="a recurrent layer follows one in int8"):
        quantized.export(tmp_path / "openvino", "openvino")


@pytest.mark.parametrize("policy", POLICIES)
def test_a_network_in_float32_within_one_in_mixed_precision_takes_what_is_computed_before_it(policy):
    x = keras.Input([8, 8, 3])
    base = keras.Model(x, L.GlobalAveragePooling2D()(L.Conv2D(4, 3)(x)), name="base")
    keras.mixed_precision.set_global_policy(policy)
    try:
        image = keras.Input([8, 8, 3], name="image")
        scaled = L.Rescaling(2.0, offset=-1.0)(L.RandomFlip()(image))
        mixed = keras.Model(image, L.Dense(2)(base(scaled)))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    np.testing.assert_allclose(
        fold_batch_norms(mixed)(IMAGES, training=False), mixed(IMAGES, training=False), atol=0.05
    )


def test_a_network_that_takes_another_type_than_it_is_given_is_refused():
    x = keras.Input([3])
    base = keras.Model(x, L.Dense(2)(x), name="base")
    given = keras.Input([3], dtype="int32")
    with pytest.raises(TypeError, match=r"nested model 'base' takes float32 .* and is called with int32"):
        fold_batch_norms(keras.Model(given, base(given)))


@pytest.mark.parametrize("half", ["float16", tf.float16, np.dtype("float16")], ids=repr)
def test_what_is_cast_to_half_precision_is_cast_to_float32_in_the_canonical_form(half):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        x = keras.Input([4], name="x")
        y = L.Dense(4, activation="relu")(x)
        mixed = keras.Model(x, tf.add(y, tf.cast(x > 0, half)))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    folded = fold_batch_norms(mixed)
    data = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    np.testing.assert_allclose(folded(data), mixed(data), atol=0.01)
    assert {layer.output.dtype.name for layer in folded.layers} == {"float32", "bool"}
