"""Precision plans name the dense products of a model and keep those in float that int8 would hurt."""

import numpy as np
import pytest

from optops.compression.quantization import dynamic_int8_plan, float_plan, make_plan, signal_to_noise


@pytest.fixture
def weights(tmp_path):
    generator = np.random.default_rng(0)
    spiked = generator.normal(size=[1024, 8])
    spiked[0] = 100
    np.savez(
        tmp_path / "weights.npz",
        **{
            "m/good/kernel:0": generator.normal(size=[64, 8]).astype(np.float32),
            "m/spiked/kernel:0": spiked.astype(np.float32),
            "m/embedding/embeddings:0": generator.normal(size=[20, 16]).astype(np.float32),
            "m/good/bias:0": np.zeros(8, np.float32),
            "m/picture/kernel:0": np.zeros([3, 3, 4, 8], np.float32),
        },
    )
    return tmp_path


def test_the_signal_to_noise_ratio_is_that_of_uniform_rounding():
    kernel = np.random.default_rng(1).uniform(-1, 1, size=[100_000, 1])
    # A uniform signal of power 1/3 with steps of 1/127: noise 1/127 ** 2 / 12.
    assert signal_to_noise(kernel) == pytest.approx(10 * np.log10((1 / 3) * 12 * 127**2), abs=0.1)
    assert signal_to_noise(np.array([[1.0, 0.0], [-1.0, 0.0]])) == np.inf


def test_int8_is_planned_for_dense_products_alone(weights):
    plan = dynamic_int8_plan(weights)
    assert plan.dynamic
    assert plan.parts == {"m/good/kernel:0": "int8", "m/embedding/embeddings:0": "int8"}


def test_what_int8_would_hurt_stays_in_float_with_the_reason(weights):
    plan = dynamic_int8_plan(weights)
    assert "m/spiked/kernel:0" not in plan.parts
    signal = signal_to_noise(np.load(weights / "weights.npz")["m/spiked/kernel:0"])
    assert plan.notes == {
        "m/spiked/kernel:0": f"signal-to-noise ratio of {signal:.1f} dB in int8, below 30.0 dB",
    }


def test_a_float_plan_names_every_dense_product(weights):
    assert float_plan(weights, "fp32").parts == {}
    names = ("m/good/kernel:0", "m/spiked/kernel:0", "m/embedding/embeddings:0")
    assert float_plan(weights, "bf16").parts == dict.fromkeys(names, "bf16")


def test_bad_requests_are_refused(weights, tmp_path_factory):
    with pytest.raises(ValueError, match="fp32, bf16, fp16, int8"):
        make_plan(weights, "int4")
    with pytest.raises(ValueError, match="dynamic_int8_plan"):
        float_plan(weights, "int8")
    with pytest.raises(FileNotFoundError, match="no trainable model"):
        make_plan(tmp_path_factory.mktemp("empty"), "int8")
