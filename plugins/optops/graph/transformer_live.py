"""A Transformer's beam search in stock TensorFlow while it trains: what each epoch is judged by."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from optops.graph.transformer_serving import executable_info
from optops.graph.transformer_stock import StockSearch
from optops.models.keras import tf
from optops.models.transformer.model import Transformer
from optops.models.transformer.search import SearchSettings
from optops.runtimes.base import LoadedExecutable


def live(model: Transformer, serving: Mapping[str, Any]) -> LoadedExecutable:
    """Returns an executable over a model's own variables: it follows them as they change."""
    settings = SearchSettings.from_mapping(serving)
    search = StockSearch(model, settings)

    def execute(inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        outputs = search.serve(tf.constant(inputs["ids"], tf.int32))
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return LoadedExecutable(executable_info("tensorflow", "fp32", model.config, settings, {}), execute)
