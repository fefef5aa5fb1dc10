"""Parts of models that are no whole encoders become operators that compute the same; what only looks alike stays."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optops.graph import optimize
from optops.graph.optimizer.patterns.dense import DENSE
from optops.graph.optimizer.report import SignatureReport
from optops.kernels.tensorflow import load_operators
from optops.models.keras import tf

WIDTH, UNITS = 64, 96
STATES = tf.TensorSpec([None, None, WIDTH], tf.float32, "x")
OTHER = tf.TensorSpec([None, None, WIDTH], tf.float32, "y")
Function = Callable[..., Any]


def random(*shape: int, spread: float = 0.2) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(0, spread, shape).astype(np.float32)


SCALE, OFFSET = 1 + random(WIDTH), random(WIDTH + 0)
KERNEL, BIAS = random(WIDTH, UNITS), random(UNITS)
INFINITE = np.where(np.arange(UNITS) == 3, np.inf, KERNEL).astype(np.float32)


def rewritten(folder: Path, function: Function, *specs: tf.TensorSpec, **options: Any) -> SignatureReport:
    module = tf.Module()
    module.serve = tf.function(function, input_signature=list(specs))
    tf.saved_model.save(module, str(folder / "model"), signatures={"serving_default": module.serve})
    report = optimize(folder / "model", folder / "out", benchmark=False, picture=False, **options).signatures[0]
    assert report.difference <= (1e-4 if options.get("precision", "fp32") == "fp32" else 0.1)
    assert not report.rolled_back
    return report


def reasons(report: SignatureReport) -> str:
    return "; ".join(each["reason"] for each in report.left_alone)


def said(report: SignatureReport, pattern: str) -> list[str]:
    return [str(each["weights"]) for each in report.rewrites if each["pattern"] == pattern]


# Norms


def norm_by_moments(x: tf.Tensor) -> tf.Tensor:
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, OFFSET, SCALE, 1e-6)


def norm_step_by_step(x: tf.Tensor, axis: int = -1) -> tf.Tensor:
    centred = x - tf.reduce_mean(x, axis, keepdims=True)
    return centred / tf.sqrt(tf.reduce_mean(tf.square(centred), axis, keepdims=True) + 1e-6) * SCALE + OFFSET


def norm_by_batch_norm(x: tf.Tensor) -> tf.Tensor:
    rows = tf.reshape(x, [1, -1, WIDTH, 1])
    count = [tf.shape(rows)[1]]
    normed, _, _ = tf.compat.v1.nn.fused_batch_norm(
        rows, tf.ones(count), tf.zeros(count), epsilon=1e-3, data_format="NCHW"
    )
    return tf.reshape(normed, tf.shape(x)) * SCALE + OFFSET


NORMS = [norm_by_moments, norm_step_by_step, norm_by_batch_norm]


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_takes_the_residual_sum_along(norm: Function, tmp_path: Path) -> None:
    report = rewritten(tmp_path, lambda x, y: {"z": norm(x + y)}, STATES, OTHER)
    assert said(report, "residual norm") == [f"width {WIDTH}, with the sum before"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: {"z": norm_by_moments(x + y) * (x + y)},
        lambda x, y: {"z": norm_by_moments(x + y), "sum": x + y},
        lambda x, y: {"z": norm_by_moments(x * y)},
        lambda x, y: {"z": norm_by_moments(x * y + OFFSET)},
    ],
    ids=["read elsewhere", "an output", "no sum", "a bias"],
)
def test_a_norm_of_what_is_no_residual_sum_of_its_own_is_one_operator_alone(function: Function, tmp_path: Path) -> None:
    assert said(rewritten(tmp_path, function, STATES, OTHER), "residual norm") == [f"width {WIDTH}, alone"]


def test_a_sum_that_repeats_one_of_its_tensors_does_as_it_did(tmp_path: Path) -> None:
    rewritten(tmp_path, lambda x, y: {"z": norm_by_moments(x + y)}, STATES, OTHER)
    load_operators()
    loaded = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
    x, y = random(3, 5, WIDTH), random(1, 5, WIDTH)
    np.testing.assert_allclose(loaded(x=x, y=y)["z"], norm_by_moments(x + y), rtol=1e-4, atol=1e-5)


def moments(x: tf.Tensor, scale: Any, offset: Any) -> tf.Tensor:
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, offset, scale, 1e-6)


def steps(x: tf.Tensor, scale: Any, offset: Any) -> tf.Tensor:
    centred = x - tf.reduce_mean(x, -1, keepdims=True)
    y = centred * tf.math.rsqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + 1e-6)
    y = y if scale is None else y * scale
    return y if offset is None else y + offset


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize(("scale", "offset"), [(SCALE, None), (None, OFFSET), (None, None)])
@pytest.mark.parametrize("norm", [moments, steps])
def test_a_norm_without_scale_or_offset_is_one_too(
    norm: Function, scale: Any, offset: Any, kernels: bool, tmp_path: Path
) -> None:
    def serve(x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"z": norm(x + y, scale, offset)}

    report = rewritten(tmp_path, serve, STATES, OTHER, kernels=kernels)
    if kernels:
        assert said(report, "residual norm") == [f"width {WIDTH}, with the sum before"], report.left_alone
    else:
        assert report.counts() == ({"norm step by step": 1} if norm is moments else {})


@pytest.mark.parametrize(
    "by_root", [lambda x, v: x * tf.math.rsqrt(v), lambda x, v: x / tf.sqrt(v)], ids=["rsqrt", "sqrt"]
)
def test_a_norm_by_squares_alone_is_left_alone_with_the_reason(by_root: Function, tmp_path: Path) -> None:
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"z": by_root(x, tf.reduce_mean(tf.square(x), -1, keepdims=True) + 1e-6) * SCALE}

    report = rewritten(tmp_path, serve, STATES)
    assert "residual norm" not in report.counts()
    assert reasons(report) == "it is an RMS norm, which no operator of the library computes"


def test_a_norm_over_another_axis_is_left_alone_with_the_reason(tmp_path: Path) -> None:
    report = rewritten(tmp_path, lambda x: {"z": norm_step_by_step(x, axis=1)}, STATES)
    assert "residual norm" not in report.counts()
    assert "is not over the last axis alone" in reasons(report)


@pytest.mark.parametrize("norm", NORMS)
def test_without_the_library_norms_are_written_step_by_step(norm: Function, tmp_path: Path) -> None:
    report = rewritten(tmp_path, lambda x: {"z": norm(x)}, STATES, kernels=False)
    assert report.counts() == ({} if norm is norm_step_by_step else {"norm step by step": 1})


# Products


def by_matmul(x: tf.Tensor) -> tf.Tensor:
    made = tf.nn.bias_add(tf.matmul(tf.reshape(x, [-1, WIDTH]), KERNEL), BIAS)
    return tf.reshape(made, [tf.shape(x)[0], -1, UNITS])


def by_tensordot(x: tf.Tensor) -> tf.Tensor:
    return tf.tensordot(x, KERNEL, 1) + BIAS


def by_batched_matmul(x: tf.Tensor) -> tf.Tensor:
    return tf.matmul(x, KERNEL.T, transpose_b=True) + BIAS


def by_einsum_to_heads(x: tf.Tensor) -> tf.Tensor:
    return tf.einsum("abc,cde->abde", x, KERNEL.reshape(WIDTH, 4, -1)) + BIAS.reshape(4, -1)


PRODUCTS = [by_matmul, by_tensordot, by_batched_matmul, by_einsum_to_heads]


def gelu_by_erf(x: tf.Tensor) -> tf.Tensor:
    return x * (0.5 * (1.0 + tf.math.erf(x / np.sqrt(2.0).astype(np.float32))))


def gelu_by_tanh_of_a_power(x: tf.Tensor) -> tf.Tensor:
    return 0.5 * x * (1.0 + tf.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + 0.044715 * tf.pow(x, 3))))


def gelu_by_tanh_of_products(x: tf.Tensor) -> tf.Tensor:
    return x * (0.5 * (1.0 + tf.tanh(0.7978845608 * (x + 0.044715 * x * x * x))))


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize(
    ("activation", "kind"),
    [
        (tf.identity, "linear"),
        (tf.nn.relu, "relu"),
        (tf.nn.gelu, "gelu"),
        (gelu_by_erf, "gelu"),
        (gelu_by_tanh_of_products, "gelu_tanh"),
        (tf.nn.silu, "silu"),
    ],
)
def test_a_product_takes_bias_and_activation_along(
    product: Function, activation: Function, kind: str, tmp_path: Path
) -> None:
    function = lambda x: {"z": activation(product(x))}  # noqa: E731
    report = rewritten(tmp_path, function, STATES, extra_patterns=[DENSE])
    assert said(report, "dense") == [f"{WIDTH} to {UNITS}, {kind}, fp32"]


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_products_are_of_the_precision_that_is_asked_for(precision: str, tmp_path: Path) -> None:
    function = lambda x: {"z": tf.tensordot(tf.nn.gelu(by_tensordot(x)), KERNEL.T, 1)}  # noqa: E731
    report = rewritten(tmp_path, function, STATES, precision=precision)
    assert said(report, "dense") == [f"64 to 96, gelu, {precision}", f"96 to 64, linear, {precision}"]
    assert report.difference > 0


def test_products_in_fp32_are_left_to_tensorflow_where_nothing_is_timed(tmp_path: Path) -> None:
    assert "dense" not in rewritten(tmp_path, lambda x: {"z": by_tensordot(x)}, STATES).counts()


def test_products_in_fp32_are_timed_as_a_variant_of_their_own(tmp_path: Path) -> None:
    module = tf.Module()
    module.serve = tf.function(lambda x: {"z": norm_step_by_step(by_tensordot(x) @ KERNEL.T)}, input_signature=[STATES])
    said = "\n".join(optimize(module, tmp_path / "out").lines())
    levels = ("original", "frozen", "plain", "kernels", "products")
    assert re.search("median of a call: " + ", ".join(f"{level} [0-9.]+ ms" for level in levels), said), said


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x, y: {"z": tf.matmul(x[0], y[0], transpose_b=True)}, "its weights are computed"),
        (lambda x, y: {"z": tf.matmul(x[0], KERNEL[:, :3]) + y[0, :, :3]}, "it has 192 weights; fewer than 4096"),
        (lambda x, y: {"z": tf.matmul(x[0], INFINITE) + y[0, :, :1]}, "its weights are not all finite"),
    ],
)
def test_products_that_the_library_does_not_take_are_left_alone_with_the_reason(
    function: Function, reason: str, tmp_path: Path
) -> None:
    report = rewritten(tmp_path, function, STATES, OTHER, extra_patterns=[DENSE])
    assert "dense" not in report.counts()
    assert reason in reasons(report)


def test_what_is_read_between_product_and_activation_stays(tmp_path: Path) -> None:
    def both(x: tf.Tensor) -> dict[str, tf.Tensor]:
        hidden = by_tensordot(x)
        return {"z": tf.nn.relu(hidden), "hidden": hidden}

    report = rewritten(tmp_path, both, STATES, extra_patterns=[DENSE])
    assert said(report, "dense") == [f"{WIDTH} to {UNITS}, linear, fp32"]


@pytest.mark.parametrize("sizes", [[None, None], [3, None], [None, 5], [2, 3]])
def test_a_batched_product_with_one_matrix_becomes_one_product_of_rows(sizes: list[int | None], tmp_path: Path) -> None:
    spec = tf.TensorSpec([*sizes, WIDTH], tf.float32, "x")
    report = rewritten(tmp_path, lambda x: {"z": by_batched_matmul(x)}, spec, kernels=False)
    assert report.counts() == {"product of rows": 1}


@pytest.mark.parametrize(
    "function",
    [
        lambda x: {"z": tf.matmul(x, np.stack([KERNEL, -KERNEL]))},
        lambda x: {"z": tf.matmul(x[:1], KERNEL)},
    ],
    ids=["two matrices", "a batch of 1"],
)
def test_other_batched_products_stay(function: Function, tmp_path: Path) -> None:
    spec = tf.TensorSpec([2, None, WIDTH], tf.float32, "x")
    assert rewritten(tmp_path, function, spec, kernels=False).counts() == {}


# Activations


@pytest.mark.parametrize(
    ("activation", "kind"),
    [
        (tf.nn.gelu, "gelu"),
        (gelu_by_tanh_of_a_power, "gelu_tanh"),
        (gelu_by_tanh_of_products, "gelu_tanh"),
        (tf.nn.silu, "silu"),
    ],
)
@pytest.mark.parametrize("bias", [0.0, OFFSET], ids=["no bias", "bias"])
def test_an_activation_takes_the_bias_along(activation: Function, kind: str, bias: Any, tmp_path: Path) -> None:
    report = rewritten(tmp_path, lambda x, y: {"z": activation(x * y + bias)}, STATES, OTHER)
    assert said(report, "bias and activation") == [f"{kind}, width {WIDTH}"]
    kept = {name.rpartition("/")[2] for rewrite in report.rewrites for name in rewrite["before"]}  # type: ignore[attr-defined]
    assert ("add" in {name.rstrip("_0123456789") for name in kept}) or not np.any(bias) or kind != "silu"


@pytest.mark.parametrize(
    ("activation", "reason"),
    [
        (lambda x: x * tf.sigmoid(1.702 * x), "what Sigmoid is in is no activation of the library"),
        (
            lambda x: 0.5 * x * (1.0 + tf.tanh(0.7978845608 * (x + 0.05 * x * x * x))),
            "what Tanh is in is no activation",
        ),
        (gelu_by_erf, "a GELU by erf is as fast in TensorFlow"),
    ],
    ids=["another factor", "another cube", "erf"],
)
def test_what_is_no_activation_of_the_library_is_left_alone_with_the_reason(
    activation: Function, reason: str, tmp_path: Path
) -> None:
    report = rewritten(tmp_path, lambda x: {"z": activation(x)}, STATES)
    assert "bias and activation" not in report.counts()
    assert reason in reasons(report)


def test_a_gate_is_no_activation(tmp_path: Path) -> None:
    report = rewritten(tmp_path, lambda x, y: {"z": x * tf.sigmoid(y)}, STATES, OTHER)
    assert (report.counts(), report.left_alone) == ({}, [])
