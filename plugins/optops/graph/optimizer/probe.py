"""Runs parts of a graph on numbers of ours, to see where each value of one tensor ends up in another."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from optops.graph.optimizer.graph import Graph, producer_of
from optops.models.keras import tf


class Probe:
    """A session on a graph in which any tensor may be given; used with `with`.

    Args:
        graph: As it is now.
        sample: Arrays by node, for its placeholders and what else is known; others than the graph's are left out.
    """

    def __init__(self, graph: Graph, sample: Mapping[str, np.ndarray]) -> None:
        self._source = graph
        self._weights = graph.weights()
        with tf.Graph().as_default() as imported:
            tf.graph_util.import_graph_def(graph.graph_def(without=self._weights), name="")
        # Every run is another part of the graph: preparing it well takes longer than running it.
        config = tf.compat.v1.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        config.graph_options.optimizer_options.opt_level = -1
        self._session = tf.compat.v1.Session(graph=imported, config=config)
        self._inputs = {f"{name}:0": array for name, array in sample.items() if name in graph.nodes}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def run(self, tensors: Sequence[str], given: Mapping[str, Any] | None = None) -> list[np.ndarray]:
        """Returns the values of tensors, with those in `given` as they stand there.

        Raises:
            tf.errors.OpError: If it can not be computed.
        """
        given = given or {}
        needed = self._source.ancestors(tensors, given)
        weights = {name: value.numpy() for name, value in self._weights.items() if producer_of(name) in needed}
        return list(self._session.run(list(tensors), {**self._inputs, **weights, **given}))
