"""Trains a small Transformer on made-up pairs; run as a program it prints where it is, so that it can be killed there."""

import sys
from pathlib import Path

import numpy as np

from optops.models.keras import keras
from optops.models.training import PairBatches, TrainingSettings, fit, sequence_loss
from optops.models.transformer.config import TransformerConfig
from optops.models.transformer.model import Transformer


def train(folder: Path, on_step=lambda epoch, step: None) -> Transformer:
    random = np.random.default_rng(0)
    sources = [random.integers(4, 20, random.integers(2, 6)).tolist() for _ in range(60)]
    pairs = PairBatches(sources, [source[::-1] for source in sources], batch_tokens=64, seed=1)
    keras.utils.set_random_seed(5)
    sizes = {"vocabulary": 20, "width": 16, "heads": 2, "feed_forward": 32, "encoder_layers": 1, "decoder_layers": 1}
    model = Transformer(TransformerConfig.uniform(**sizes, dropout=0.1))

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
        loss=sequence_loss(0.1),
        validate=lambda model: -float(np.abs(model.get_weights()[0]).mean()),
        settings=TrainingSettings(epochs=4, warmup_steps=10, average_checkpoints=1, learning_rate=0.01),
        checkpoints=folder,
    )
    return model


if __name__ == "__main__":
    train(Path(sys.argv[1]), on_step=lambda epoch, step: print(epoch, step, flush=True))
