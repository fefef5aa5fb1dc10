"""The steps of a pruner: what is cut at each ratio, how it is prepared, and what it refuses."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from optops.compression.pruning.channels.steps import CriterionName, prune_steps
from optops.compression.pruning.steps import PenalizedLoss, PruningData, first_batches
from optops.models.keras import keras, tf


@dataclass(frozen=True)
class Settings:
    ratios: tuple[float, ...] = (0.25, 0.5)
    criterion: CriterionName = "l2_norm"
    multiple: int = 4
    floor: float = 0.1
    scale_penalty: float = 0.1
    sparsity_epochs: int = 0


@pytest.fixture
def model() -> Any:
    keras.utils.set_random_seed(5)
    image = keras.Input((8, 8, 3), name="image")
    x = image
    for number in range(2):
        x = keras.layers.Conv2D(32, 3, padding="same", use_bias=False, name=f"conv_{number}")(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(name=f"norm_{number}")(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(4, name="classes")(x))


def loss(model: Any, batch: Any, progress: Any) -> Any:
    del progress
    return tf.reduce_mean(tf.square(model(batch["image"], training=True) - batch["label"]))


@pytest.fixture
def data() -> PruningData:
    random = np.random.default_rng(3)

    def batch() -> dict[str, Any]:
        values = {"image": random.normal(1, 2, (8, 8, 8, 3)), "label": random.normal(size=(8, 4))}
        return {name: value.astype(np.float32) for name, value in values.items()}

    batches = [batch() for _ in range(2)]
    return PruningData(batches, lambda: batches, loss)


def widths(model: Any) -> list[int]:
    return [model.get_layer(f"conv_{number}").filters for number in range(2)]


@pytest.mark.parametrize("criterion", ["l1_norm", "l2_norm", "batch_norm_scale", "taylor"])
def test_each_ratio_is_the_share_removed_in_all(model: Any, data: PruningData, criterion: CriterionName) -> None:
    lines: list[str] = []
    before = [weight.copy() for weight in model.get_weights()]
    steps = list(prune_steps(model, Settings(criterion=criterion), data, lines.append))
    assert [step.ratio for step in steps] == [0.25, 0.5]
    assert [sum(widths(step.model)) for step in steps] == [48, 32]
    assert all(width % 4 == 0 for step in steps for width in widths(step.model))
    for after, weight in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(after, weight, err_msg="the whole model changed: it is to teach")
    assert "32 channels: conv_0" in lines[0]


def test_the_floor_is_a_share_of_the_whole_model_at_every_ratio(model: Any, data: PruningData) -> None:
    # The first layer matters least by far.
    kernel = model.get_layer("conv_0").kernel
    values = np.full(kernel.shape, 1e-4, np.float32)
    values[..., :4] = 1
    kernel.assign(values)
    settings = Settings(ratios=(0.25, 0.5, 0.6, 0.7), floor=0.25)
    steps = list(prune_steps(model, settings, data, lambda line: None))
    assert [step.model.get_layer("conv_0").filters for step in steps] == [16, 8, 8, 8]
    assert [sum(widths(step.model)) for step in steps] == [48, 32, 24, 20]


def test_batch_norms_of_a_pruned_model_are_measured_anew(model: Any, data: PruningData) -> None:
    step = next(prune_steps(model, Settings(), data, lambda line: None))
    kept = step.model.get_layer("norm_0").moving_mean.numpy()
    assert np.abs(kept).max() > 0.01, "a fresh model's moving means are zero"


def test_batch_norms_are_measured_on_the_input_that_they_stand_behind() -> None:
    user, item = keras.Input((3,), name="first"), keras.Input((3,), name="second")
    wide = keras.layers.Dense(16, kernel_initializer="ones", use_bias=False)(user)
    wide = keras.layers.BatchNormalization(name="norm")(wide)
    model = keras.Model({"user": user, "item": item}, keras.layers.Dense(2)(tf.concat([wide, item], -1)))
    # Both have the same shape: nothing but their values tells them apart.
    batch = {"first": np.ones((4, 3), np.float32), "second": np.full((4, 3), 100, np.float32)}
    step = next(prune_steps(model, Settings(), PruningData([batch], lambda: [batch], loss), lambda line: None))
    np.testing.assert_allclose(step.model.get_layer("norm").moving_mean, 3.0)


def test_what_removed_channels_say_is_measured_on_inputs_that_have_each_others_names_for_keys() -> None:
    image, facts = keras.Input((8, 8, 3), name="facts"), keras.Input((5,), name="image")
    wide = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(16, 3, name="wide")(image))
    wide = keras.layers.Conv2D(4, 1)(keras.layers.ReLU()(wide))
    joined = tf.concat([keras.layers.GlobalAveragePooling2D()(wide), facts], -1)
    model = keras.Model({"image": image, "facts": facts}, keras.layers.Dense(2)(joined))
    batch = {"facts": np.ones((2, 8, 8, 3), np.float32), "image": np.ones((2, 5), np.float32)}
    data = PruningData([batch], lambda: [batch], loss)
    step = next(prune_steps(model, Settings(criterion="batch_norm_scale"), data, lambda line: None))
    assert step.model.get_layer("wide").filters == 12


def test_sparsity_training_comes_first_and_is_no_candidate(model: Any, data: PruningData) -> None:
    settings = Settings(criterion="batch_norm_scale", sparsity_epochs=3)
    steps = prune_steps(model, settings, data, lambda line: None)
    first = next(steps)
    assert (first.ratio, first.epochs) == (0.0, 3) and first.penalty is not None
    assert first.model is not model
    # 64 scales that are one, a tenth of each.
    assert float(first.penalty()) == pytest.approx(6.4)
    scales = np.ones(32, np.float32)
    scales[::2] = 1e-3
    for number in range(2):
        first.model.get_layer(f"norm_{number}").gamma.assign(scales)
    second, third = steps
    assert float(first.penalty()) == pytest.approx(3.2, rel=0.01), "the penalty does not follow the training"
    assert widths(third.model) == [16, 16]
    assert np.all(third.model.get_layer("norm_0").gamma.numpy() == 1), "channels with a scale were cut"
    assert second.penalty is None


def test_what_is_prepared_for_pruning_computes_what_the_model_does(data: PruningData) -> None:
    image = keras.Input((8, 8, 3), name="image")
    normal = keras.layers.Normalization()
    normal.adapt(data.batches[0]["image"])
    shared = keras.layers.Conv2D(8, 3, padding="same", name="conv_0")
    inner = keras.Model(image, shared(image))
    x = keras.layers.BatchNormalization()(inner(normal(image)) + shared(normal(image)))
    model = keras.Model(image, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))
    first = next(prune_steps(model, Settings(sparsity_epochs=1), data, lambda line: None))
    values = data.batches[0]["image"]
    np.testing.assert_allclose(first.model(values), model(values), atol=1e-6)


def test_a_penalty_is_added_to_the_loss_and_reported(model: Any, data: PruningData) -> None:
    batch = data.batches[0]
    both, scalars = PenalizedLoss(loss, lambda: tf.constant(2.0))(model, batch, 0.0)
    assert float(both) == pytest.approx(float(loss(model, batch, 0.0)) + 2)
    assert float(scalars["penalty"]) == 2


def test_a_batch_without_the_models_input_is_refused(model: Any, data: PruningData) -> None:
    broken = PruningData([{"picture": data.batches[0]["image"]}], data.everything, loss)
    with pytest.raises(ValueError, match="hold picture, but not the model's input 'image'"):
        list(prune_steps(model, Settings(), broken, lambda line: None))


@pytest.mark.parametrize(
    ("examples", "most_bytes", "taken"), [(1, 10**9, 1), (8, 10**9, 2), (9, 10**9, 3), (99, 10**9, 5), (99, 200, 2)]
)
def test_importance_is_measured_on_no_more_batches_than_asked_for_or_fit(
    examples: int, most_bytes: int, taken: int
) -> None:
    made = []

    def batches() -> Any:
        for number in range(5):
            made.append(number)
            yield {"image": np.full((4, 8), number, np.float32), "label": np.zeros(4, np.int32)}

    found = first_batches(batches(), examples, most_bytes)
    assert [int(batch["image"][0, 0]) for batch in found] == made == list(range(taken))
