"""The training loop learns, resumes exactly, stops early, averages, and fails clearly."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from optops.models.keras import keras, tf
from optops.models.training import CheckpointError, TrainingDivergedError, TrainingSettings, loop
from optops.models.training.adam import Adam
from optops.models.training.averaging import needed, window
from optops.models.training.schedule import learning_rate_at
from optops.models.training.step import TrainingStep, common_signature


class StoppedError(Exception):
    pass


def assert_same_weights(one, other):
    for left, right in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_training_lowers_the_loss_and_improves_validation(small, tmp_path):
    model, history = small.train(tmp_path, epochs=8)
    assert history.records[-1].loss < 0.3 * history.records[0].loss
    assert history.validation > history.records[0].validation
    assert history.validation == pytest.approx(small.validate(model))
    assert history.records[-1].scalars["error"] == pytest.approx(history.records[-1].loss)


def test_adam_equals_the_reference():
    random = np.random.default_rng(0)
    start, gradients = random.normal(size=(3, 2)), random.normal(size=(5, 3, 2))
    variable = tf.Variable(start, dtype=tf.float32)
    optimizer = Adam([variable])
    first = second = np.zeros((3, 2))
    for step, gradient in enumerate(gradients, 1):
        optimizer.apply([tf.constant(gradient, tf.float32)], tf.constant(0.1))
        first = 0.9 * first + 0.1 * gradient
        second = 0.98 * second + 0.02 * gradient**2
        start = start - 0.1 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.98**step)) + 1e-9)
    np.testing.assert_allclose(variable.numpy(), start, rtol=1e-5)
    assert optimizer.variables[0].numpy() == 5


def test_weights_keep_to_their_constraints():
    layer = keras.layers.Dense(8, kernel_constraint="non_neg")
    model = keras.Sequential([keras.Input((4,)), layer])
    batch = {"input": np.ones((4, 4), np.float32)}

    def loss(model, batch, progress):
        return tf.reduce_sum(model(batch["input"], training=True))

    step = TrainingStep(model, loss, common_signature([batch]), TrainingSettings(epochs=1))
    for _ in range(3):
        step([batch], 0.5, 0.0)
    np.testing.assert_array_equal(layer.kernel, np.zeros((4, 8)))
    assert layer.bias.numpy().max() < 0, "what has no constraint is free"


@pytest.mark.parametrize("interrupted_in", [2, 4])
def test_an_interrupted_run_ends_bit_equal_to_an_uninterrupted_one(small, tmp_path, interrupted_in):
    straight, expected = small.train(tmp_path / "straight")
    calls = []

    def stop(model):
        calls.append(1)
        if len(calls) == interrupted_in:
            raise StoppedError
        return small.validate(model)

    with pytest.raises(StoppedError):
        small.train(tmp_path / "resumed", validate=stop)
    uploaded = []
    resumed, history = small.train(tmp_path / "resumed", saved=lambda path: uploaded.append(path.name))
    assert_same_weights(straight, resumed)
    assert history == expected
    assert uploaded == [f"epoch-{epoch:04d}" for epoch in range(interrupted_in - 1, 5)]


def test_a_finished_run_called_again_trains_no_more_and_gives_the_same_weights(small, tmp_path):
    first, expected = small.train(tmp_path)

    def no_more(epoch):
        assert epoch == 1  # read for its shapes only
        return small.batches(epoch)

    again, history = small.train(tmp_path, batches=no_more)
    assert_same_weights(first, again)
    assert history == expected


def test_dropout_is_active_and_follows_from_the_seed(small, tmp_path):
    one, _ = small.train(tmp_path / "one", epochs=1)
    same, _ = small.train(tmp_path / "same", epochs=1)
    other, _ = small.train(tmp_path / "other", epochs=1, seed=2)
    assert_same_weights(one, same)
    assert any((left != right).any() for left, right in zip(one.get_weights(), other.get_weights(), strict=True))


def test_a_loss_that_becomes_nan_names_step_and_rate_and_leaves_checkpoints_alone(small, tmp_path):
    def poisoned(epoch):
        batches = small.batches(epoch)
        if epoch == 2:
            batches[1]["input"] = np.full_like(batches[1]["input"], np.nan)
        return batches

    with pytest.raises(TrainingDivergedError, match=r"step 7: the loss is nan.*learning rate .*lower learning_rate"):
        small.train(tmp_path, batches=poisoned)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0001"]
    _, history = small.train(tmp_path)
    assert len(history.records) == 4


def test_a_gradient_that_is_infinite_where_the_loss_is_finite_is_an_error(small, tmp_path):
    def root(model, batch, progress):
        return tf.reduce_sum(tf.sqrt(tf.abs(model(batch["input"], training=True)) * 0.0))

    with pytest.raises(TrainingDivergedError, match=r"step 1: the loss is 0\.0 and its gradient's norm"):
        small.train(tmp_path, loss=root)


def test_a_validation_that_is_nan_is_an_error(small, tmp_path):
    with pytest.raises(TrainingDivergedError, match="validation after epoch 1 is NaN"):
        small.train(tmp_path, validate=lambda model: float("nan"))


def test_training_stops_when_patience_runs_out_and_keeps_the_best_epoch(small, tmp_path):
    scores = iter([0.1, 0.5, 0.3, 0.4, 0.2])
    _, history = small.train(
        tmp_path, epochs=50, patience=2, average_checkpoints=1, validate=lambda model: next(scores)
    )
    assert (len(history.records), history.best_epoch, history.stopped_early) == (4, 2, True)
    assert (history.chosen, history.validation) == ("epoch 2", 0.5)


def test_a_metric_that_has_not_moved_yet_neither_ends_training_nor_keeps_the_first_epoch(small, tmp_path):
    scores = iter([0.0, 0.0, 0.0, 0.0, 0.0, 0.2, 0.1, 0.1])
    _, history = small.train(
        tmp_path, epochs=50, warmup_steps=1, patience=2, average_checkpoints=1, validate=lambda model: next(scores)
    )
    assert (len(history.records), history.best_epoch, history.stopped_early) == (8, 6, True)
    _, flat = small.train(tmp_path / "flat", epochs=3, average_checkpoints=1, validate=lambda model: 0.0)
    assert (len(flat.records), flat.best_epoch) == (3, 3)


def test_a_metric_that_stands_still_and_falls_keeps_the_last_epoch_before_it_fell(small, tmp_path):
    scores = iter([0.5, 0.5, 0.3, 0.5])
    _, history = small.train(
        tmp_path, epochs=4, schedule="cosine", average_checkpoints=1, validate=lambda model: next(scores)
    )
    assert (history.best_epoch, history.validation) == (2, 0.5)


def test_a_cosine_runs_to_its_end_whatever_validation_says(small, tmp_path):
    scores = iter([0.5, 0.4, 0.3, 0.2, 0.1, 0.1])
    _, history = small.train(
        tmp_path, epochs=6, patience=2, schedule="cosine", average_checkpoints=1, validate=lambda model: next(scores)
    )
    assert (len(history.records), history.best_epoch, history.stopped_early) == (6, 1, False)


@pytest.mark.parametrize("together", [0.31, 0.9])
def test_the_final_weights_are_the_mean_around_the_best_if_better_than_its_second_best_epoch(small, tmp_path, together):
    seen = []

    def validate(model):
        seen.append(model.get_weights())
        return [0.1, 0.4, 0.3, 0.2, together][len(seen) - 1]

    model, history = small.train(tmp_path, average_checkpoints=3, validate=validate)
    assert (history.averaged, history.chosen, history.validation) == ((1, 2, 3), "mean of epochs 1 to 3", together)
    for weight, *trained in zip(model.get_weights(), *seen[:3], strict=True):
        np.testing.assert_allclose(weight, np.mean(trained, axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("scores", "together", "count", "best"),
    [
        ([0.1, 0.4, 0.3, 0.2], 0.29, 3, 2),
        ([0.1, 0.25, 0.38, 0.4], 0.35, 4, 4),  # on a slope, where the first epochs pull the average down
        ([0.1, 0.2, 0.3, 0.4], 0.34, 2, 4),
    ],
)
def test_the_best_epoch_is_kept_if_the_mean_is_no_better_than_its_second_best_epoch(
    small, tmp_path, scores, together, count, best
):
    seen = []

    def validate(model):
        seen.append(model.get_weights())
        return [*scores, together][len(seen) - 1]

    model, history = small.train(tmp_path, average_checkpoints=count, validate=validate)
    assert (history.averaged, history.chosen, history.validation) == ((), f"epoch {best}", 0.4)
    for weight, trained in zip(model.get_weights(), seen[best - 1], strict=True):
        np.testing.assert_array_equal(weight, trained)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_epoch_that_can_still_be_averaged_is_kept(count):
    for best in range(1, 9):
        kept_at = {last: needed(best, last, count) for last in range(best, 9)}
        for last, kept in kept_at.items():
            assert set(window(best, last, count)) <= kept
            for later_best in range(last + 1, 10):
                assert {epoch for epoch in window(later_best, later_best, count) if epoch <= last} <= kept
        assert best in window(best, 8, count)
        assert len(window(best, 8, count)) <= count


def test_progress_is_reported_for_each_epoch_with_its_validation(small, tmp_path):
    reports = []
    _, history = small.train(tmp_path, epochs=2, report=reports.append)
    ends = [progress for progress in reports if progress.step == progress.steps_in_epoch]
    assert [progress.epoch for progress in ends][-2:] == [1, 2]
    assert ends[-1].validation == history.records[-1].validation
    assert all(progress.examples_per_second >= 0 and progress.epochs == 2 for progress in reports)


def test_the_report_of_a_whole_epoch_has_its_mean_loss_and_the_speed_of_its_training(small, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)  # a report after each step, so that none is left for the last
    reports = []
    _, history = small.train(tmp_path, epochs=2, report=reports.append)
    ends = [progress for earlier, progress in pairwise(reports) if progress.step == earlier.step]
    assert [progress.loss for progress in ends] == [record.loss for record in history.records]
    assert all(progress.examples_per_second > 0 for progress in ends)


def test_the_step_is_traced_once_for_batches_of_different_size_and_length(small):
    calls = []

    def loss(model, batch, progress):
        calls.append(1)
        return tf.reduce_mean(model(tf.cast(batch["ids"], tf.float32)[..., None] * tf.ones([4])))

    model = small.build()
    sizes = [(3, 5), (2, 7), (1, 1), (8, 2)]
    batches = [{"ids": np.ones(size, np.int32)} for size in sizes]
    signature = common_signature(batches)
    assert signature["ids"].shape.as_list() == [None, None]
    step = TrainingStep(model, loss, signature, TrainingSettings(epochs=1, replicas=1))
    for batch in batches:
        step([batch], learning_rate=0.1, progress=0.5)
    assert len(calls) == 1


def test_two_accumulated_batches_make_the_step_of_both_together(small, tmp_path):
    def halves(epoch):
        return [
            {name: array[half : half + 8] for name, array in batch.items()}
            for batch in small.batches(epoch)
            for half in (0, 8)
        ]

    def without_dropout(model, batch, progress):
        return tf.reduce_mean(tf.square(model(batch["input"], training=False) - batch["label"]))

    whole, of_whole = small.train(tmp_path / "whole", loss=without_dropout)
    accumulated, of_halves = small.train(tmp_path / "halves", loss=without_dropout, batches=halves, accumulate=2)
    for left, right in zip(whole.get_weights(), accumulated.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, atol=2e-5)
    assert [record.step for record in of_halves.records] == [record.step for record in of_whole.records]
    assert of_halves.records[0].loss == pytest.approx(of_whole.records[0].loss, rel=1e-4)


@pytest.mark.parametrize("replicas", [2, 3, 7])
def test_replicas_together_make_the_step_of_the_whole_batch(small, tmp_path, replicas):
    def without_dropout(model, batch, progress):
        error = tf.reduce_mean(tf.square(model(batch["input"], training=False) - batch["label"]))
        return error, {"error": error}

    def uneven(epoch):  # 5 examples in each, so that some replicas have fewer than others, or none
        return [{name: array[:5] for name, array in batch.items()} for batch in small.batches(epoch)]

    one, of_one = small.train(tmp_path / "one", loss=without_dropout, batches=uneven, replicas=1)
    split, of_split = small.train(tmp_path / "split", loss=without_dropout, batches=uneven, replicas=replicas)
    for left, right in zip(one.get_weights(), split.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, atol=2e-5)
    assert of_split.records[-1].scalars["error"] == pytest.approx(of_one.records[-1].scalars["error"], rel=1e-4)


@pytest.mark.skipif("avx512_bf16" not in Path("/proc/cpuinfo").read_text(), reason="needs a processor with bfloat16")
def test_products_in_bfloat16_are_for_the_steps_alone():
    values = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    model = keras.Sequential([keras.layers.Dense(64, use_bias=False)])
    model.build((None, 64))
    batch = {"input": values}

    @tf.function
    def outside(batch):
        return tf.reduce_sum(tf.square(model(batch)))

    def loss(model, batch, progress):
        return tf.reduce_sum(tf.square(model(batch["input"])))

    found = {}
    expected = float(outside(tf.constant(values)))
    for precision in ("fp32", "bf16"):
        settings = TrainingSettings(epochs=1, replicas=1, precision=precision)
        found[precision], _, _ = TrainingStep(model, loss, common_signature([batch]), settings)([batch], 0.0, 0.0)
    assert found["fp32"] == pytest.approx(expected, rel=1e-6)
    assert found["bf16"] == pytest.approx(expected, rel=1e-2)
    assert found["bf16"] != pytest.approx(expected, rel=1e-6)
    assert float(outside(tf.constant(values))) == expected


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_loss_in_half_precision_trains_like_one_in_single(accumulate, replicas):
    values = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    found = {}
    for precision in ("float32", "mixed_float16"):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, dtype=precision)])

        def loss(model, batch, progress):
            value = tf.reduce_mean(tf.square(model(batch["input"])))
            return value, {"error": value}

        batch = {"input": values}
        settings = TrainingSettings(epochs=1, accumulate=accumulate, replicas=replicas)
        step = TrainingStep(model, loss, common_signature([batch]), settings)
        value, norm, scalars = step([batch] * accumulate, 0.1, 0.0)
        found[precision] = [value, norm, scalars["error"], *model.get_weights()[0].ravel()]
    np.testing.assert_allclose(found["mixed_float16"], found["float32"], rtol=0.02)


def test_what_is_left_of_an_epoch_makes_a_smaller_step(small, tmp_path):
    _, history = small.train(tmp_path, epochs=2, accumulate=3)
    batches = len(small.batches(1))
    assert batches % 3
    assert [record.step for record in history.records] == [-(-batches // 3), 2 * -(-batches // 3)]


def test_an_axis_that_never_changes_stays_fixed():
    batches = [{"image": np.zeros((2, size, size, 3), np.float32)} for size in (8, 16)]
    assert common_signature(batches)["image"].shape.as_list() == [None, None, None, 3]


def test_checkpoints_of_a_run_with_other_settings_are_refused(small, tmp_path):
    small.train(tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match="run with other settings"):
        small.train(tmp_path, epochs=2)


def test_checkpoints_of_another_model_are_refused(small, tmp_path):
    small.train(tmp_path)
    other = keras.Sequential([keras.layers.Dense(3), keras.layers.Dropout(0.2), keras.layers.Dense(1)])
    other.build((None, 4))
    with pytest.raises(CheckpointError, match=r"has shape \(4, 8\), the model wants \(4, 3\).*empty folder"):
        small.train(tmp_path, model=other)


@pytest.mark.parametrize(("warmup", "told"), [(2, False), (3, True), (400, True)])
def test_a_warm_up_takes_a_quarter_of_the_steps_at_most_and_that_is_told(small, tmp_path, caplog, warmup, told):
    rates = []
    small.train(tmp_path, epochs=2, warmup_steps=warmup, report=lambda progress: rates.append(progress.learning_rate))
    assert max(rates) > 0.01
    assert ("its warm-up takes 2 of them" in caplog.text) == told


def test_patience_does_not_run_out_while_the_learning_rate_rises(small, tmp_path):
    scores = iter([0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    _, history = small.train(
        tmp_path, epochs=40, warmup_steps=30, patience=2, average_checkpoints=1, validate=lambda model: next(scores)
    )
    assert (len(history.records), history.best_epoch, history.stopped_early) == (8, 1, True)


def test_no_batches_is_an_error(small, tmp_path):
    with pytest.raises(ValueError, match="nothing to train on"):
        small.train(tmp_path, batches=lambda epoch: [])


def test_a_model_that_can_not_learn_is_an_error(small, tmp_path):
    frozen = small.build()
    frozen.trainable = False
    with pytest.raises(ValueError, match=r"no weight of model .* is trainable"):
        small.train(tmp_path, model=frozen)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"schedule": "linear"}, "schedule is 'linear'; choose one of inverse_square_root, cosine"),
    ],
)
def test_impossible_settings_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**({"epochs": 1} | change))


def test_the_rate_rises_to_its_peak_and_then_decays():
    settings = TrainingSettings(epochs=1, learning_rate=0.1, warmup_steps=10)
    assert learning_rate_at(5, settings, 100) == pytest.approx(0.05)
    assert learning_rate_at(10, settings, 100) == pytest.approx(0.1)
    assert learning_rate_at(40, settings, 100) == pytest.approx(0.05)
    cosine = TrainingSettings(epochs=1, learning_rate=0.1, warmup_steps=10, schedule="cosine")
    rates = [learning_rate_at(step, cosine, 100) for step in range(1, 101)]
    assert rates[9] == pytest.approx(0.1) == max(rates)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0 < rates[-1] < 1e-4
