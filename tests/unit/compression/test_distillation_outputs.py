"""What models learn from another model's outputs."""

import re
from typing import Any

import numpy as np
import pytest

from optops.compression.distillation.outputs import check_outputs, mixed_loss, teacher_loss
from optops.models.keras import keras, tf
from optops.models.training import TrainingSettings
from optops.models.training.step import TrainingStep, common_signature


def two_outputs(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    image = keras.Input((6,), name="x")
    return keras.Model(image, [keras.layers.Dense(3)(image), keras.layers.Dense(2)(image)])


def test_the_error_against_a_teacher_is_in_units_of_the_variance_of_each_output() -> None:
    teacher, student = two_outputs(1), two_outputs(2)
    x = np.random.default_rng(3).normal(size=(32, 6)).astype(np.float32)
    wanted, found = ([output.numpy().astype(np.float64) for output in model(x)] for model in (teacher, student))
    by_hand = np.mean([np.mean((one - other) ** 2) / one.var() for one, other in zip(wanted, found, strict=True)])
    assert float(teacher_loss(teacher)(student, {"x": x}, 0.0)) == pytest.approx(by_hand, rel=1e-5)


def test_a_model_that_equals_its_teacher_has_nothing_to_learn() -> None:
    teacher = two_outputs(1)
    x = np.random.default_rng(3).normal(size=(8, 6)).astype(np.float32)
    assert float(teacher_loss(teacher)(teacher, {"x": x}, 0.0)) == 0


@pytest.mark.parametrize("wanted", [0.0, 1e-4, 5.0])
def test_a_batch_of_one_number_does_not_outweigh_all_others(wanted: float) -> None:
    def constant(value: float) -> keras.Model:
        image = keras.Input((6,), name="x")
        number = keras.layers.Dense(1, bias_initializer=keras.initializers.Constant(value))
        return keras.Model(image, number(image))

    loss = teacher_loss(constant(wanted))(constant(0.2), {"x": np.zeros((1, 6), np.float32)}, 0.0)
    assert 0 < float(loss) <= 2_000


def test_soft_and_hard_losses_are_mixed_by_alpha() -> None:
    mixed = mixed_loss(lambda *_: 2.0, lambda *_: 10.0, 0.25)
    assert mixed(None, None, 0.0) == pytest.approx(0.25 * 2 + 0.75 * 10)
    assert mixed_loss(lambda *_: 2.0, None, 0.25)(None, None, 0.0) == 2.0


@pytest.mark.parametrize(("alpha", "alone"), [(1.0, 2.0), (0.0, 10.0)])
def test_a_loss_that_counts_for_nothing_is_not_computed(alpha: float, alone: float) -> None:
    computed = []

    def losing(value: float) -> Any:
        return lambda *_: computed.append(value) or value

    assert mixed_loss(losing(2.0), losing(10.0), alpha)(None, None, 0.0) == alone
    assert computed == [alone]


def test_losses_that_are_mixed_share_one_pass_through_the_student() -> None:
    def network() -> keras.Model:
        image = keras.Input((4, 4, 2), name="x")
        wide = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(8, 3)(image))
        return keras.Model(image, keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(wide)))

    def hard(model: Any, batch: Any, progress: Any) -> Any:
        return tf.reduce_mean(tf.square(model(batch["x"], training=True) - batch["labels"]))

    teacher, student = network(), network()
    random = np.random.default_rng(1)
    x = random.normal(5, 1, size=(16, 4, 4, 2)).astype(np.float32)
    batch = {"x": x, "labels": random.normal(size=(16, 8)).astype(np.float32)}
    mean = student.layers[1](x).numpy().mean(axis=(0, 1, 2))
    settings = TrainingSettings(epochs=1, replicas=1)
    step = TrainingStep(student, mixed_loss(teacher_loss(teacher), hard, 0.5), common_signature([batch]), settings)
    assert sum(node.op == "Conv2D" for node in step.traced.graph.as_graph_def().node) == 2
    step([batch], 1e-3, 0.0)
    # Once for a batch: momentum 0.99 of a mean that was zero.
    np.testing.assert_allclose(student.get_layer("norm").moving_mean, 0.01 * mean, rtol=1e-4)


def test_what_losses_report_and_train_beside_the_model_is_kept_when_they_are_mixed() -> None:
    class Soft:
        variables = ("projection",)

        def __call__(self, model: object, batch: object, progress: object) -> tuple[float, dict[str, float]]:
            return 2.0, {"soft": 2.0, "accuracy": 0.1}

    for hard in (lambda *_: (10.0, {"accuracy": 0.9}), lambda *_: 10.0):
        mixed = mixed_loss(Soft(), hard, 0.25)
        value, scalars = mixed(None, None, 0.0)
        assert value == pytest.approx(0.25 * 2 + 0.75 * 10)
        assert scalars == {"soft": 2.0, "accuracy": 0.9 if isinstance(hard(), tuple) else 0.1}
        assert mixed.variables == ["projection"]


def test_a_batch_without_the_models_input_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="not the model's input 'x'"):
        teacher_loss(two_outputs(1))(two_outputs(2), {"image": np.zeros((1, 6), np.float32)}, 0.0)


def test_models_learn_from_what_stands_under_an_inputs_name_whatever_key_they_keep_it_under() -> None:
    def model(keyed: bool) -> keras.Model:
        keras.utils.set_random_seed(1)
        user, item = keras.Input((6,), name="first"), keras.Input((6,), name="second")
        score = keras.layers.Dense(3)(user - 2 * item)
        return keras.Model({"user": user, "item": item} if keyed else [user, item], score)

    random = np.random.default_rng(3)
    batch = {name: random.normal(size=(8, 6)).astype(np.float32) for name in ("first", "second")}
    assert float(teacher_loss(model(keyed=False))(model(keyed=True), batch, 0.0)) == 0


def in_half(scale: float) -> keras.Model:
    image = keras.Input((6,), name="x")
    kernel = keras.initializers.Constant(scale)
    return keras.Model(image, keras.layers.Dense(3, kernel_initializer=kernel, dtype="mixed_float16")(image))


def test_what_is_learnt_from_half_precision_is_computed_in_single() -> None:
    # Squares of 600 are infinite in half precision.
    loss = teacher_loss(in_half(100.0))(in_half(200.0), {"x": np.ones((2, 6), np.float32)}, 0.0)
    assert loss.dtype == tf.float32
    assert np.isfinite(float(loss)) and float(loss) > 0


def test_a_student_in_single_precision_learns_from_a_teacher_in_half() -> None:
    student = two_outputs(2)
    student = keras.Model(student.inputs, student.outputs[:1])
    assert float(teacher_loss(in_half(1.0))(student, {"x": np.ones((2, 6), np.float32)}, 0.0)) > 0


def test_a_class_among_the_outputs_has_no_gradient_and_is_left_out() -> None:
    def with_class(seed: int) -> keras.Model:
        model = two_outputs(seed)
        return keras.Model(model.inputs, [*model.outputs, tf.argmax(model.outputs[0], axis=-1)])

    x = np.random.default_rng(3).normal(size=(8, 6)).astype(np.float32)
    without = teacher_loss(two_outputs(1))(two_outputs(2), {"x": x}, 0.0)
    assert float(teacher_loss(with_class(1))(with_class(2), {"x": x}, 0.0)) == pytest.approx(float(without))


def test_a_teacher_that_gives_nothing_but_a_class_is_refused() -> None:
    image = keras.Input((6,), name="x")
    model = keras.Model(image, tf.argmax(keras.layers.Dense(3)(image), axis=-1))
    with pytest.raises(ValueError, match=r"have no gradient; the model gives .* int64"):
        teacher_loss(model)(model, {"x": np.ones((1, 6), np.float32)}, 0.0)


def with_heads(heads: Any) -> keras.Model:
    image = keras.Input((6,), name="x")
    made = {name: keras.layers.Dense(units)(image) for name, units in dict(heads).items()}
    return keras.Model(image, made if isinstance(heads, dict) else list(made.values()))


@pytest.mark.parametrize(
    ("student", "given"),
    [
        ({"a": 3, "b": 1}, "a (None, 3), b (None, 1)"),  # would be spread over the teacher's two
        ({"a": 3}, "a (None, 3)"),
        ({"a": 3, "c": 2}, "a (None, 3), c (None, 2)"),
        ([("a", 3), ("b", 2)], "(None, 3), (None, 2)"),
    ],
)
def test_a_student_with_other_outputs_than_its_teacher_is_refused(student: Any, given: str) -> None:
    teacher = with_heads({"b": 2, "a": 3})
    with pytest.raises(ValueError, match=re.escape(f"gives a (None, 3), b (None, 2), the student {given}; give")):
        check_outputs(teacher, with_heads(student))
    check_outputs(teacher, with_heads({"a": 3, "b": 2}))
