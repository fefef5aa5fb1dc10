"""A small tf_keras model with dropout, data it can learn, and what `fit` needs around them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from optops.models.keras import keras, tf
from optops.models.training import TrainingSettings, fit

STEPS_PER_EPOCH = 5


def _batches(epoch):
    random = np.random.default_rng((7, epoch))
    inputs = random.normal(size=(STEPS_PER_EPOCH, 16, 4)).astype(np.float32)
    return [{"input": array, "label": array.sum(axis=1, keepdims=True)} for array in inputs]


def _loss(model, batch, progress):
    error = tf.reduce_mean(tf.square(model(batch["input"], training=True) - batch["label"]))
    return error, {"error": error}


def _build():
    keras.utils.set_random_seed(11)
    layers = [keras.layers.Dense(8, activation="tanh"), keras.layers.Dropout(0.2), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.build((None, 4))
    return model


def _validate(model):
    batch = _batches(0)[0]
    return -float(np.mean((model(batch["input"], training=False).numpy() - batch["label"]) ** 2))


def _train(folder, model=None, **changes):
    settings = {"epochs": 4, "learning_rate": 0.03, "warmup_steps": 3, "average_checkpoints": 2, "patience": 10}
    arguments = {"batches": _batches, "loss": _loss, "validate": _validate}
    arguments |= {name: changes.pop(name) for name in list(changes) if name in {*arguments, "report", "saved"}}
    model = model or _build()
    history = fit(model, settings=TrainingSettings(**(settings | changes)), checkpoints=Path(folder), **arguments)
    return model, history


@pytest.fixture(scope="session")
def small():
    return SimpleNamespace(batches=_batches, loss=_loss, build=_build, validate=_validate, train=_train)
