"""Trains a small model on made-up ids; run as a program it prints where it is, so that it can be killed there."""

import sys
from pathlib import Path

import numpy as np

from optops.models.keras import keras
from optops.models.training import PairBatches, TrainingSettings, fit
from optops.models.training.losses import smoothed_cross_entropy


def train(folder, on_step=lambda epoch, step: None):
    random = np.random.default_rng(0)
    ids = [random.integers(4, 20, random.integers(2, 6)).tolist() for _ in range(60)]
    pairs = PairBatches(ids, ids, batch_tokens=64, seed=1)
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.layers.Embedding(20, 16), keras.layers.Dropout(0.1), keras.layers.Dense(20)])
    model.build((None, None))

    class Watched:
        def __init__(self, epoch):
            self.epoch, self.batches = epoch, pairs(epoch)

        def __len__(self):
            return len(self.batches)

        def __iter__(self):
            for step, batch in enumerate(self.batches):
                on_step(self.epoch, step)
                yield batch

    fit(
        model,
        batches=Watched,
        loss=lambda model, batch, progress: smoothed_cross_entropy(
            batch["labels"], model(batch["target"], training=True), 0.1
        ),
        validate=lambda model: -float(np.abs(model.get_weights()[0]).mean()),
        settings=TrainingSettings(epochs=4, warmup_steps=10, average_checkpoints=1, learning_rate=0.01),
        checkpoints=folder,
    )
    return model


if __name__ == "__main__":
    train(Path(sys.argv[1]), on_step=lambda epoch, step: print(epoch, step, flush=True))
