"""Facts about TensorFlow graphs."""

from typing import Any


def count_nodes(graph: Any) -> int:
    """Returns the number of nodes in a GraphDef, those of its function library included."""
    return len(graph.node) + sum(len(function.node_def) for function in graph.library.function)


def optimized(function: Any) -> Any:
    """Returns the GraphDef that TensorFlow's own optimiser makes of a frozen concrete function, as it is executed."""
    from tensorflow.core.protobuf.config_pb2 import ConfigProto
    from tensorflow.python.grappler import tf_optimizer
    from tensorflow.python.training.saver import export_meta_graph

    graph = export_meta_graph(graph_def=function.graph.as_graph_def(), graph=function.graph)
    graph.collection_def["train_op"].node_list.value.extend(tensor.name for tensor in function.outputs)
    for node in graph.graph_def.node:
        node.device = "/device:CPU:0"  # it fuses only what it knows to be on a CPU
    config = ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    return tf_optimizer.OptimizeGraph(config, graph)
