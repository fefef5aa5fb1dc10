"""Converts SavedModels to ONNX."""

import logging
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from optops.compression.quantization.rounding import grid_of
from optops.graph.freezing import freeze, input_names
from optops.graph.lowering import LoweringError
from optops.graph.onnx_dilations import merge_dilations
from optops.graph.onnx_nodes import names_read, rename_reads

OPSET = 18
KEPT_EINSUM = "KeptEinsum"
NO_COPIES = "TF2ONNX_CATCH_ERRORS"
"""Where tf2onnx looks whether it may go on without a pass that fails, for which it needs copies: not if this is set."""


def convert(saved_model: Path) -> Any:
    """Returns the ONNX model of a SavedModel's signature `serving_default`.

    Its inputs have the names of the signature's arguments; its outputs have names of their own, in the order of the
    signature's sorted names.

    Raises:
        LoweringError: If its variables can not become constants, of which no graph may have 2 GB, or tf2onnx knows no
            ONNX for one of its operations.
    """
    import onnx

    try:
        frozen = freeze(saved_model, inline_compiled=True)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise LoweringError(f"the variables of this graph can not become constants: {reason}") from error
    try:
        try:
            model = _converted(frozen, copies=False)
        except Exception:  # noqa: BLE001 - one of the passes failed, or all do
            model = _converted(frozen, copies=True)
        _restore_einsums(model.graph)
        _name_inputs(model, input_names(frozen))
        merge_paddings(model)
        onnx.checker.check_model(model)
    except Exception as error:
        raise LoweringError(f"tf2onnx can not convert this graph: {type(error).__name__}: {error}") from error
    return model


def _converted(frozen: Any, *, copies: bool) -> Any:
    """Returns what tf2onnx makes of a frozen function.

    Args:
        frozen: From `freeze`.
        copies: Whether the graph is copied before each pass of tf2onnx's optimiser, to go on without one that fails.
            That takes many times the memory of the weights.
    """
    tensors = {"input_names": frozen.inputs, "output_names": frozen.outputs}
    names = {key: [tensor.name for tensor in each] for key, each in tensors.items()}
    if not copies:
        os.environ[NO_COPIES] = "FALSE"
    try:
        model, _ = _tf2onnx().convert.from_graph_def(
            frozen.graph.as_graph_def(), opset=OPSET, custom_op_handlers=HANDLERS, **names
        )
    finally:
        os.environ.pop(NO_COPIES, None)
    return model


@cache
def _tf2onnx() -> Any:
    """Returns the library, with what it gets wrong in the way that we use it put right."""
    import onnx
    import tf2onnx
    from tf2onnx import tfonnx
    from tf2onnx.graph import Node
    from tf2onnx.optimizer import back_to_back_optimizer

    write = Node.update_proto

    def write_anew(node: Any, external_tensor_storage: Any = None) -> None:
        # A message that is written over, as after every pass, never gives memory back.
        node._op = onnx.NodeProto(name=node._op.name, op_type=node._op.op_type, domain=node._op.domain)
        write(node, external_tensor_storage)

    Node.update_proto = write_anew
    back_to_back_optimizer._func_map[("Reshape",)] = _merge_reshapes
    tfonnx.rewrite_conv_dilations = merge_dilations
    # What it does not know it logs, an operation a line, before it raises the first: the error says enough.
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    return tf2onnx


def merge_paddings(model: Any) -> None:
    """Gives convolutions the paddings with zeros that nothing else reads; changes an ONNX model in place.

    A rounding between them is made before the padding, to the same numbers, for zero is on every grid; and once, if
    what is padded was rounded so already.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    given = {tensor.name for tensor in graph.output}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for pad in [node for node in graph.node if node.op_type == "Pad"]:
        *rounding, convolution = _reading_chain(graph, pad, ("QuantizeLinear", "DequantizeLinear"), "Conv")
        padded = {output for node in (pad, *rounding) for output in node.output}
        sizes = _zeros_around(pad, constants)
        if sizes is None or given.intersection(padded) or convolution is None:
            continue
        facts = {attribute.name: attribute for attribute in convolution.attribute}
        if "auto_pad" in facts and facts["auto_pad"].s not in (b"NOTSET", b"VALID"):
            continue
        own = list(facts["pads"].ints) if "pads" in facts else [0] * len(sizes)
        for name in {"pads", "auto_pad"} & set(facts):
            convolution.attribute.remove(facts[name])
        convolution.attribute.append(
            helper.make_attribute("pads", [one + other for one, other in zip(own, sizes, strict=True)])
        )
        graph.node.remove(pad)
        if rounding and not _is_rounded_so(graph, pad.input[0], rounding[0], constants):
            rounding[0].input[0] = pad.input[0]
            continue
        convolution.input[0] = pad.input[0]
        for node in rounding:
            graph.node.remove(node)


def _reading_chain(graph: Any, node: Any, optional: tuple[str, ...], last: str) -> list[Any]:
    """Returns the nodes that alone read a node, one after the other: all of the optional kinds or none, then the last.

    [None] if that is not how it is read.
    """
    for kinds in ((last,), (*optional, last)):
        chain: list[Any] = []
        for kind in kinds:
            name = (chain or [node])[-1].output[0]
            readers = [reader for reader in graph.node if name in names_read(reader)]
            if [reader.op_type for reader in readers] != [kind]:
                break
            chain += readers
        else:
            return chain
    return [None]


def _is_rounded_so(graph: Any, name: str, rounding: Any, constants: Mapping[str, Any]) -> bool:
    """Returns whether a tensor comes from the grid that a QuantizeLinear rounds to."""
    for maker in graph.node:
        if maker.op_type == "DequantizeLinear" and name in maker.output:
            grids = [[constants.get(value) for value in node.input[1:]] for node in (maker, rounding)]
            return all(
                one is not None and other is not None and np.array_equal(one, other)
                for one, other in zip(*grids, strict=True)
            )
    return False


def _zeros_around(pad: Any, constants: Mapping[str, Any]) -> list[int] | None:
    """Returns how many zeros a Pad puts before, then after, in each direction; None if it does anything else."""
    mode = next((attribute.s for attribute in pad.attribute if attribute.name == "mode"), b"constant")
    given = [constants[name] for name in pad.input[1:] if name in constants]
    if mode != b"constant" or len(pad.input) > 3 or len(given) < len(pad.input) - 1:
        return None
    pads, *rest = given
    half = len(pads) // 2
    sides = [*pads[:2], *pads[half : half + 2]]
    if any(sides) or (pads < 0).any() or any(value.any() for value in rest):
        return None
    return [int(size) for size in (*pads[2:half], *pads[half + 2 :])]


def _complementary_error_function(context: Any, node: Any, name: str, arguments: Any) -> None:
    """Writes erfc(x), which Keras' GELU has and tf2onnx does not know, as 1 - erf(x)."""
    from onnx import helper

    del arguments
    dtype = context.get_dtype(node.output[0])
    one = context.make_const(f"{name}/one", np.ones([], helper.tensor_dtype_to_np_dtype(dtype)))
    shape, outputs, inputs = context.get_shape(node.output[0]), node.output, node.input
    context.remove_node(name)
    erf = context.make_node("Erf", inputs, shapes=[shape], dtypes=[dtype])
    context.make_node("Sub", [one.output[0], erf.output[0]], name=name, outputs=outputs, shapes=[shape], dtypes=[dtype])


def _choice(context: Any, node: Any, name: str, arguments: Any) -> None:
    """Writes a choice between floats as Where: tf2onnx would multiply both, which is NaN where one is infinite."""
    from onnx import TensorProto
    from tf2onnx.onnx_opset.controlflow import Select

    del name, arguments
    if context.get_dtype(node.output[0]) in (TensorProto.FLOAT, TensorProto.DOUBLE):  # ONNX Runtime takes these
        node.set_attr("handles_nan", True)
    Select.version_9(context, node)


def _einsum(context: Any, node: Any, name: str, arguments: Any) -> None:
    """Leaves an einsum what it is, under a name that tf2onnx's optimiser does not know.

    That would take it apart into many products of reshaped and transposed tensors.
    """
    del arguments
    equation = node.get_attr("equation").s.decode().replace(" ", "")
    shape, dtype = context.get_shape(node.output[0]), context.get_dtype(node.output[0])
    outputs, inputs = node.output, node.input
    context.remove_node(name)
    given = {"name": name, "outputs": outputs, "shapes": [shape], "dtypes": [dtype]}
    context.make_node(KEPT_EINSUM, inputs, attr={"equation": equation}, **given)


def _restore_einsums(graph: Any) -> None:
    for node in graph.node:
        node.op_type = "Einsum" if node.op_type == KEPT_EINSUM else node.op_type
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _restore_einsums(attribute.g)


def _merge_reshapes(context: Any, node: Any, readers: Any) -> list[Any]:
    """Leaves out a Reshape before another one, in the place of what tf2onnx's optimiser does.

    That forgets that a size of 0 is copied from what the second one reads.
    """
    if len(readers) == 1 and readers[0].type == "Reshape":
        (second,) = readers
        sizes = second.inputs[1]
        if not sizes.is_const() or sizes.get_tensor_value(as_list=False).all():
            context.replace_inputs(second, [node.input[0], second.input[1]])
            context.remove_node(node.name)
    return []


def _rounding(context: Any, node: Any, name: str, arguments: Any) -> None:
    """Writes a rounding to 8 bits on the grid that plans are made for."""
    from onnx import TensorProto

    del arguments
    grid = grid_of((node.get_attr("min").f, node.get_attr("max").f))
    scale = context.make_const(f"{name}/scale", np.array(grid.scale, np.float32)).output[0]
    zero = context.make_const(f"{name}/zero_point", np.array(grid.zero_point, np.uint8)).output[0]
    shape, outputs, source = context.get_shape(node.output[0]), node.output, node.input[0]
    context.remove_node(name)
    # With an axis, which means nothing here, tf2onnx's optimiser leaves it where it is: runtimes want it there.
    facts: dict[str, Any] = {"attr": {"axis": 1}, "shapes": [shape]}
    whole = context.make_node("QuantizeLinear", [source, scale, zero], dtypes=[TensorProto.UINT8], **facts).output[0]
    given = {"name": name, "outputs": outputs, "dtypes": [TensorProto.FLOAT]}
    context.make_node("DequantizeLinear", [whole, scale, zero], **given, **facts)


def _convolution_of_volumes(context: Any, node: Any, name: str, arguments: Any) -> None:
    """Writes a Conv3D with its groups, which tf2onnx counts in convolutions of images alone."""
    from tf2onnx.onnx_opset.nn import ConvOp

    del name, arguments
    axis = 1 if node.get_attr("data_format").s == b"NCDHW" else -1
    shape, kernel = context.get_shape(node.input[0]), context.get_shape(node.input[1])
    ConvOp.version_13(context, node)
    if shape and kernel and min(shape[axis], kernel[-2]) > 0:
        node.set_attr("group", shape[axis] // kernel[-2])


HANDLERS: dict[str, Any] = {
    "Conv3D": (_convolution_of_volumes, []),
    "Erfc": (_complementary_error_function, []),
    "Einsum": (_einsum, []),
    "SelectV2": (_choice, []),
    "FakeQuantWithMinMaxArgs": (_rounding, []),
}


def _name_inputs(model: Any, inputs: list[str]) -> None:
    # tf2onnx keeps TensorFlow's tensor names (`ids:0`); callers know those of the signature. Outputs keep theirs, for
    # in ONNX no output may be called as an input is; they are known by their order, that of their sorted names.
    names = {tensor.name: name for tensor, name in zip(model.graph.input, inputs, strict=True)}
    for tensor in model.graph.input:
        tensor.name = names[tensor.name]
    for node in model.graph.node:
        rename_reads(node, names)
