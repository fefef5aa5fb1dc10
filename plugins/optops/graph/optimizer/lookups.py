"""What lookup tables give for samples: a session on a part of the graph can not reach the tables."""

from collections.abc import Sequence

import numpy as np

from optops.graph.optimizer.function import imported
from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.loading import Signature
from optops.graph.optimizer.lookup_shapes import FINDS
from optops.graph.optimizer.samples import Sample
from optops.models.keras import tf

LOOKUPS = (*FINDS, "LookupTableSize", "LookupTableSizeV2")


def looked_up(signature: Signature, graph: Graph, samples: Sequence[Sample]) -> list[Sample]:
    """Returns for each sample what every lookup of a graph gives, by the lookup's node.

    Args:
        signature: With its tables.
        graph: Not changed.
        samples: Of the signature's inputs.
    """
    names = [node.name for node in graph.nodes.values() if node.op in LOOKUPS]
    if not names:
        return [{} for _ in samples]
    part = graph.copy()
    part.outputs = [f"{name}:0" for name in names]
    part.prune()
    function = imported(signature, part, {})
    try:
        given = [function(*(tf.constant(sample[name]) for name in signature.inputs)) for sample in samples]
    except tf.errors.OpError:  # of a branch by switches that is not taken
        return [{} for _ in samples]
    return [dict(zip(names, map(np.asarray, tensors), strict=True)) for tensors in given]
