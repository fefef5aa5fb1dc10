"""Half precision in ONNX graphs that a CPU executes: weights are stored in it, products are computed in fp32."""

from typing import Any

import numpy as np

from optops.compression.quantization.signal import fits_half
from optops.graph.lowering import LoweringError


def store_in_half(model: Any) -> None:
    """Stores the weights that fp16 holds well in it; a Cast gives each back, once, when a runtime loads the graph.

    CPUs without arithmetic in fp16 convert to fp32 and back around every node that is in it, which is slower than fp32.
    This way everything is computed in fp32, as fast as before, and the weights take half the space.

    Args:
        model: Changed in place; its weights are constants of two dimensions or more.

    Raises:
        LoweringError: If fp16 holds none of them well.
    """
    import onnx
    from onnx import numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype != np.float32 or value.ndim < 2 or not fits_half(value):
            continue
        name, stored = tensor.name, f"{tensor.name}/fp16"
        tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16), stored))
        casts.append(onnx.helper.make_node("Cast", [stored], [name], name=f"{name}/Cast", to=onnx.TensorProto.FLOAT))
    if not casts:
        raise LoweringError(
            "fp16 reached none of the model's weights: they are beyond what it holds well, or there are none"
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
