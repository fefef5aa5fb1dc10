"""A BERT executed in stock TensorFlow while it trains: what each epoch is judged by."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from optops.graph.bert_serving import executable_info
from optops.graph.bert_stock import stock_function
from optops.models.bert.model import Bert
from optops.models.keras import tf
from optops.runtimes.base import LoadedExecutable


def live(model: Bert, serving: Mapping[str, Any]) -> LoadedExecutable:
    """Returns an executable over a model's own variables: it follows them as they change."""
    function = stock_function(model)

    def execute(inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        outputs = function(tf.constant(inputs["ids"], tf.int32))
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return LoadedExecutable(executable_info("tensorflow", "fp32", model.config, serving, {}), execute)
