"""What lookups give has a known shape, and that is found out in few passes."""

from typing import Any

import pytest

from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.lookup_shapes import note_lookup_shapes
from optops.models.keras import tf


def lookup(keys: tf.Tensor, default: Any, name: str) -> tf.Tensor:
    table = tf.compat.v1.placeholder(tf.resource, [], name=f"{name}_table")
    return tf.raw_ops.LookupTableFindV2(table_handle=table, keys=keys, default_value=default, name=name)


def number(text: tf.Tensor, name: str) -> tf.Tensor:
    return lookup(text, tf.constant(0, tf.int64), name)


def graph_of(session_graph: tf.Graph, outputs: list[str]) -> Graph:
    """Returns a graph whose last node comes first."""
    definition = session_graph.as_graph_def()
    nodes = reversed(list(definition.node))
    inputs = [node.name for node in definition.node if node.op == "Placeholder"]
    return Graph.of(tf.compat.v1.GraphDef(node=nodes, versions=definition.versions), inputs, outputs)


def test_a_lookup_of_what_another_gives_has_its_shape_in_whatever_order_they_stand() -> None:
    with tf.Graph().as_default() as session_graph:
        first = number(tf.compat.v1.placeholder(tf.string, [None, 3], name="words"), "first")
        lookup(first, tf.constant(""), "second")
    graph = graph_of(session_graph, ["second:0"])
    note_lookup_shapes(graph)
    assert graph.shape("first:0") == graph.shape("second:0") == (None, 3)


def test_lookups_of_keys_that_are_known_cost_one_pass_together(monkeypatch: pytest.MonkeyPatch) -> None:
    with tf.Graph().as_default() as session_graph:
        words = tf.compat.v1.placeholder(tf.string, [2], name="words")
        names = [f"lookup_{place}" for place in range(5)]
        for name in names:
            number(words, name)
    graph = graph_of(session_graph, [f"{name}:0" for name in names])
    passes: list[Any] = []
    once = tf.graph_util.import_graph_def

    def counted(*arguments: Any, **named: Any) -> Any:
        passes.append(once(*arguments, **named))

    monkeypatch.setattr(tf.graph_util, "import_graph_def", counted)
    note_lookup_shapes(graph)
    assert len(passes) == 1
    assert [graph.shape(f"{name}:0") for name in names] == [(2,)] * 5
