"""Text classifiers of BERT-base's and ALBERT-base's sizes, whole and with half of their layers."""

from functools import partial
from typing import Any

import numpy as np
from networks import SEED, Network

from optops.models.bert.config import BertConfig

WHOLE, HALF = "whole", "half of the layers"
KERNELS = [("tensorflow+kernels", "fp32"), ("tensorflow+kernels", "int8")]
OTHERS = [("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("openvino", "fp32"), ("openvino", "int8")]
CANDIDATES = {WHOLE: [*KERNELS, *OTHERS], HALF: [*KERNELS, ("onnxruntime", "int8"), ("openvino", "int8")]}
BASE = {"classes": 2, "width": 768, "heads": 12, "feed_forward": 3072, "layers": 12}
LENGTHS, BATCHES = (64, 128), (1, 8)
CALIBRATED = 16


def networks() -> list[Network]:
    """Returns both networks at full size (Devlin et al. 2019, section 3; Lan et al. 2020, table 1)."""
    return [
        encoder("BERT-base", BertConfig.uniform(vocabulary=30522, **BASE)),
        encoder("ALBERT-base", BertConfig.uniform(vocabulary=30000, groups=1, embedding_width=128, **BASE)),
    ]


def encoder(name: str, config: BertConfig, lengths: tuple[int, ...] = LENGTHS) -> Network:
    """Returns a classifier of texts without padding."""
    random = np.random.default_rng(SEED)

    def texts(count: int, length: int) -> dict[str, np.ndarray]:
        ids = random.integers(config.separator + 1, config.vocabulary, (count, length), np.int32)
        ids[:, -1] = config.separator
        return {"ids": ids}

    cells = {f"{length} tokens, batch {batch}": texts(batch, length) for length in lengths for batch in BATCHES}
    calibration = [texts(1, lengths[0]) for _ in range(CALIBRATED)]
    return Network(name, "bert", partial(_whole_and_half, config), CANDIDATES, cells, calibration)


def _whole_and_half(config: BertConfig) -> dict[str, Any]:
    from optops.models.bert.model import Bert
    from optops.models.bert.slicing import keep_layers
    from optops.models.keras import keras

    keras.utils.set_random_seed(SEED)
    whole = Bert(config)
    # A layer that runs several times is there once: half as often is half of the layers.
    half = (
        keep_layers(whole, [0], config.repeats // 2)
        if config.repeats > 1
        else keep_layers(whole, range(0, config.depth, 2))
    )
    return {WHOLE: whole, HALF: half}
