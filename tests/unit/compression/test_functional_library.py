"""`prune` and `distill` take functional models as they take Transformers."""

import re
from pathlib import Path

import numpy as np
import pytest

from optops.compression import distill, prune
from optops.compression.distillation.losses import DistillationSettings
from optops.compression.pruning.channels.criteria import batch_norm_scale
from optops.models.keras import keras, tf
from optops.models.training import TrainingSettings
from optops.models.transformer.config import TransformerConfig
from optops.models.transformer.model import Transformer

L = keras.layers


def network():
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8, 3), name="image")
    tensor = L.ReLU()(L.BatchNormalization()(L.Conv2D(32, 3, padding="same", use_bias=False)(image)))
    tensor = L.ReLU()(L.BatchNormalization()(L.Conv2D(32, 3, padding="same", use_bias=False)(tensor)))
    return keras.Model(image, L.Dense(4, name="scores")(L.GlobalAveragePooling2D()(tensor)))


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    images = generator.normal(size=(256, 8, 8, 3)).astype(np.float32)
    return {"image": images, "labels": images.mean(axis=(1, 2)).argmax(axis=-1).astype(np.int32)}


@pytest.mark.parametrize("criterion", [None, batch_norm_scale])
def test_half_of_the_channels_go_and_batch_norms_are_measured_anew(data, criterion):
    model = network()
    chosen = {} if criterion is None else {"criterion": criterion}
    smaller = prune(model, ratio=0.5, batches=[data["image"][:64]], **chosen)
    assert smaller.count_params() < 0.4 * model.count_params()
    assert smaller.output_shape == model.output_shape
    first = smaller.layers[1]
    norm = smaller.layers[2]
    measured = first(data["image"][:64]).numpy().mean(axis=(0, 1, 2))
    np.testing.assert_allclose(norm.moving_mean.numpy(), measured, atol=1e-5)


def test_without_batches_batch_norms_stay_as_they_were():
    assert prune(network(), ratio=0.5).count_params() < network().count_params()


def test_a_network_too_narrow_for_the_multiple_is_not_returned_as_it_is_but_pruned_by_a_smaller_one():
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8, 3), name="image")
    tensor = L.Conv2D(8, 3)(L.Conv2D(8, 3)(image))
    model = keras.Model(image, L.Dense(4)(L.Flatten()(tensor)))
    with pytest.raises(
        ValueError, match=r"at ratio 0\.7 no channel goes: widths stay multiples of 8, .* groups have 8 "
    ):
        prune(model, ratio=0.7)
    smaller = prune(model, ratio=0.7, multiple=2)
    assert sum(layer.filters for layer in smaller.layers if isinstance(layer, L.Conv2D)) in (4, 6)
    floored = prune(model, ratio=0.7, multiple=1, floor=0.5)
    assert [layer.filters for layer in floored.layers if isinstance(layer, L.Conv2D)] == [4, 4]
    np.testing.assert_array_equal(prune(model, ratio=0.0).get_weights()[0], model.get_weights()[0])


def test_ratios_of_the_other_kind_of_model_are_refused():
    sizes = {"vocabulary": 14, "width": 32, "heads": 2, "feed_forward": 64, "encoder_layers": 1, "decoder_layers": 1}
    transformer = Transformer(TransformerConfig.uniform(**sizes, dropout=0.0))
    with pytest.raises(ValueError, match="takes `ratio`"):
        prune(network(), heads=0.0, feed_forward=0.5)
    with pytest.raises(ValueError, match="takes `heads` and `feed_forward`"):
        prune(transformer, ratio=0.5)


def test_a_pruned_model_learns_from_what_it_was(data):
    teacher = network()
    student = prune(teacher, ratio=0.5, batches=[data["image"][:64]])
    exact = teacher(data["image"]).numpy()

    def likeness(model):
        return -float(np.square(model(data["image"]).numpy() - exact).mean() / exact.var())

    def batches(epoch):
        order = np.random.default_rng(epoch).permutation(256)
        return [{name: values[part] for name, values in data.items()} for part in np.split(order, 8)]

    before = likeness(student)
    settings = TrainingSettings(epochs=8, learning_rate=5e-3, warmup_steps=10, replicas=1)
    history = distill(teacher, student, batches, validate=likeness, settings=settings)
    assert history.validation > before
    assert likeness(student) > 0.7 * before
    np.testing.assert_array_equal(teacher(data["image"]).numpy(), exact)

    def labels(model, batch, progress):
        del progress
        scores = model(batch["image"], training=True)
        value = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(batch["labels"], scores, from_logits=True))
        return value, {"labels": value}

    taught = distill(
        teacher,
        student,
        batches,
        validate=likeness,
        settings=TrainingSettings(epochs=1, warmup_steps=10, replicas=1),
        distillation=DistillationSettings(alpha=0.0),
        loss=labels,
    )
    (record,) = taught.records
    assert record.loss == pytest.approx(record.scalars["labels"], rel=1e-5)


def test_the_example_of_the_docs_runs(data):
    page = (Path(__file__).parents[3] / "docs" / "extending.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n([^`]*prune\(model, ratio.*?)```", page, re.DOTALL).group(1)
    model, images = network(), data["image"][:64]
    exact = model(images).numpy()
    names = {
        "model": model,
        "images": images,
        "likeness": lambda smaller: -float(np.square(smaller(images).numpy() - exact).mean()),
    }
    exec(code, names)
    assert names["half"].count_params() < 0.4 * model.count_params()
    assert names["likeness"](names["half"]) > names["likeness"](prune(model, ratio=0.5, batches=[images]))


def test_what_concerns_transformers_alone_is_refused_for_others():
    with pytest.raises(ValueError, match="`alpha` alone"):
        distill(
            network(),
            network(),
            lambda epoch: [],
            validate=lambda model: 0.0,
            settings=TrainingSettings(epochs=1),
            distillation=DistillationSettings(temperature=2.0),
        )
