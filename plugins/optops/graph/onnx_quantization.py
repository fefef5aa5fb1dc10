"""Dynamic int8 for the matrix products of an ONNX graph, with proof that it reached them."""

from collections.abc import Mapping
from pathlib import Path

import onnx

from optops.graph.lowering import LoweringError

VNNI_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})


def quantize_products(model: onnx.ModelProto, products: Mapping[str, object], path: Path) -> None:
    """Writes a model whose named `MatMul` nodes run in int8; with no names, the model as it is.

    Weights are signed, with a scale per column; activations get theirs at run time, per tensor (so that an int8
    result depends a little on padding and on what else is in the batch). Only on x86 without VNNI, where products
    of 8-bit pairs saturate, weights are kept to 7 bits.

    Raises:
        LoweringError: If a node was left in float, which ONNX Runtime does without a word.
    """
    if not products:
        onnx.save(model, str(path))
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        model,
        str(path),
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=sorted(products),
        per_channel=True,
        reduce_range=saturates(Path("/proc/cpuinfo")),
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    nodes = onnx.load(str(path)).graph.node
    left = sorted({node.name for node in nodes if node.op_type == "MatMul"} & set(products))
    reached = sum(node.op_type == "MatMulInteger" for node in nodes)
    if left or reached != len(products):
        raise LoweringError(
            f"{path.name}: int8 reached {reached} of {len(products)} products; in float stayed {', '.join(left) or '?'}"
        )


def quantize_all_products(model: onnx.ModelProto, path: Path) -> int:
    """Writes a model whose products with a constant weight run in int8; returns how many.

    Raises:
        LoweringError: If there is none.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    products = {}
    for index, node in enumerate(model.graph.node):
        if node.op_type == "MatMul" and node.input[1] in constants:
            node.name = node.name or f"product_{index}"
            products[node.name] = node
    if not products:
        raise LoweringError("the graph has no product with a constant weight that int8 could reach")
    quantize_products(model, products, path)
    return len(products)


def saturates(cpuinfo: Path) -> bool:
    """Returns whether 8-bit products saturate on this CPU: x86 without VNNI."""
    if not cpuinfo.is_file():
        return False
    flags = next((line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("flags")), "")
    return bool(flags) and not VNNI_FLAGS & set(flags.split())
