"""Models that several tests compress: a Transformer that has learned to write digits backwards, a network of images."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from optops.models.keras import keras
from optops.models.training import PairBatches, TrainingSettings, fit, sequence_loss
from optops.models.training.losses import token_accuracy
from optops.models.transformer.config import TransformerConfig
from optops.models.transformer.model import Transformer

L = keras.layers
SETTINGS = TrainingSettings(epochs=12, learning_rate=5e-3, warmup_steps=50, schedule="cosine", average_checkpoints=1)


def _pairs(count, seed, batch_tokens):
    random = np.random.default_rng(seed)
    digits = [random.integers(4, 14, random.integers(2, 6)).tolist() for _ in range(count)]
    return PairBatches([[*row, 2] for row in digits], [row[::-1] for row in digits], batch_tokens, seed)


def _build(feed_forward=64, seed=3):
    keras.utils.set_random_seed(seed)
    sizes = {"vocabulary": 14, "width": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
    return Transformer(TransformerConfig.uniform(feed_forward=feed_forward, **sizes))


@pytest.fixture(scope="session")
def reversing(tmp_path_factory):
    train, held_out = _pairs(3000, 1, 384), list(_pairs(200, 2, 4096)(1))

    def accuracy(model):
        scores = [
            token_accuracy(batch["labels"], model({name: batch[name] for name in ("source", "target")}))
            for batch in held_out
        ]
        return float(np.mean(scores))

    def learn(model, folder, after_update=lambda: None, **changes):
        settings = TrainingSettings(**{**vars(SETTINGS), **changes})
        arguments = {"batches": train, "loss": sequence_loss(0.0), "validate": accuracy, "settings": settings}
        return fit(model, checkpoints=Path(folder), after_update=after_update, **arguments)

    model = _build()
    history = learn(model, tmp_path_factory.mktemp("reversing"))
    return SimpleNamespace(
        model=model, history=history, train=train, accuracy=accuracy, learn=learn, build=_build, settings=SETTINGS
    )


def _normed(tensor, filters, **arguments):
    tensor = L.Conv2D(filters, 3, padding="same", use_bias=False, **arguments)(tensor)
    return L.BatchNormalization()(tensor)


@pytest.fixture
def residual_network():
    """A network of images whose layers stand in each place that int8 treats in a way of its own."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3), name="image")
    trunk = L.LeakyReLU(0.1, name="leaky")(_normed(image, 16, name="stem"))
    branch = L.ReLU(name="inner")(_normed(trunk, 16, name="one"))
    branch = _normed(L.DepthwiseConv2D(3, padding="same", name="depthwise")(branch), 16, name="two")
    trunk = L.ReLU(name="outer")(L.Add(name="sum")([trunk, branch]))
    pooled = L.MaxPooling2D(name="pool")(trunk)
    side = L.UpSampling2D(name="up")(L.Conv2D(8, 1, activation="relu", name="side")(pooled))
    joined = L.Concatenate(name="joined")([trunk, side])
    last = L.Conv2D(16, 3, activation="relu", name="late")(joined)
    model = keras.Model(image, L.Dense(10, name="scores")(L.GlobalAveragePooling2D(name="mean")(last)))
    generator = np.random.default_rng(1)
    for weight in model.weights:
        if "moving_mean" in weight.name or "beta" in weight.name:
            weight.assign(generator.normal(size=weight.shape) * 0.3)
        if "variance" in weight.name or "gamma" in weight.name:
            weight.assign(generator.uniform(0.5, 1.5, size=weight.shape))
    return model
