"""Runs parts of a graph on numbers of ours, to see where each value of one tensor ends up in another."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from optops.graph.optimizer.graph import Graph
from optops.models.keras import tf


class Probe:
    """A session on a graph in which any tensor may be given; used with `with`.

    Args:
        graph: As it is now.
        sample: Arrays for its inputs, by placeholder.
    """

    def __init__(self, graph: Graph, sample: Mapping[str, np.ndarray]) -> None:
        self._graph = tf.Graph()
        with self._graph.as_default():
            tf.graph_util.import_graph_def(graph.graph_def(), name="")
        self._session = tf.compat.v1.Session(graph=self._graph)
        self._inputs = {f"{name}:0": array for name, array in sample.items()}

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
        return list(self._session.run(list(tensors), {**self._inputs, **(given or {})}))
