"""Writes a SavedModel of rewritten signatures; tables and assets go with it, what could not be rewritten stays."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from optops.graph.optimizer.function import as_function, weights_apart
from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.loading import Model
from optops.models.keras import tf


def write(model: Model, graphs: Mapping[str, Graph | None], folder: Path) -> None:
    """Writes a SavedModel.

    Args:
        model: Where it comes from.
        graphs: One for each signature; None keeps it as it is. If all are None, the SavedModel is copied.
        folder: Where it goes; must not exist.
    """
    if not any(graphs.values()):
        shutil.copytree(model.folder, folder)
        return
    module = tf.Module()
    module.weights = []
    signatures = {}
    for name, signature in model.signatures.items():
        graph = graphs[name]
        if graph is None:
            signatures[name] = signature.original
            continue
        variables = {key: tf.Variable(weights, trainable=False) for key, weights in weights_apart(graph).items()}
        module.weights += variables.values()
        signatures[name] = as_function(signature, graph, variables)
    if None in graphs.values():
        module.original = model.loaded  # with the variables of the signatures that stayed
    else:
        module.resources = list(_resources(model.loaded))
    # Gradients of an activation's own (swish has one) can not be saved once its variables are constants.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(folder), signatures=signatures, options=options)


def _resources(loaded: Any) -> Iterator[Any]:
    """Gives the tables and assets of a loaded SavedModel."""
    from tensorflow.python.checkpoint.graph_view import ObjectGraphView
    from tensorflow.python.trackable.asset import Asset
    from tensorflow.python.trackable.resource import CapturableResource

    for trackable in ObjectGraphView(loaded).breadth_first_traversal()[0]:
        if isinstance(trackable, CapturableResource | Asset):
            yield trackable
