"""Lowers a BERT to OpenVINO, which reads the graph that is made for ONNX Runtime and has fused kernels for it too."""

from pathlib import Path

import onnx

from optops.compression.quantization.functional.measured import host_weight_levels
from optops.graph.bert_onnx import classifier_graph
from optops.graph.bert_serving import executable_info, load_trained
from optops.graph.lowering import Lowering, LoweringError, check_plan, notes_on_reach
from optops.graph.onnx_static_int8 import round_products
from optops.graph.openvino_execution import check_cpu, executed_layers, listed, quantized_products, symmetric_range
from optops.models.bert.weights import read_weights
from optops.precision import PrecisionPlan
from optops.runtimes.onnxruntime import MODEL


def lower(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes `model.onnx`, which OpenVINO compiles when it is loaded.

    In int8, products take their input rounded to the plan's range: OpenVINO does not scale it at run time in integers
    on every CPU.

    Raises:
        LoweringError: If the plan is in bf16 and this CPU does not compute in it, or is in int8 without ranges.
    """
    check_cpu(plan)
    model, serving = load_trained(trainable)
    check_plan(plan, model)
    # In bf16 OpenVINO itself says which operations keep fp32, so products stay whole.
    in_int8 = plan.precision == "int8"
    blocks = classifier_graph(read_weights(model), plan if in_int8 else PrecisionPlan("fp32"))
    graph = blocks.graph.model()
    if in_int8:
        without = sorted(set(blocks.quantized) - set(plan.ranges))
        if without:
            raise LoweringError(
                f"OpenVINO in int8 needs the range of what {', '.join(without)} takes; "
                "make the plan with calibration data"
            )
        ranges = {name: plan.ranges[name] for name in blocks.quantized}
        signed = {name: symmetric_range(limits) or limits for name, limits in ranges.items()}
        round_products(graph, signed, host_weight_levels())
    onnx.save(graph, str(folder / MODEL))
    executed = executed_layers(folder / MODEL, plan.precision)
    facts: dict[str, float | str] = {"nodes": sum(executed.values())}
    reach: list[str] = []
    if in_int8:
        facts["nodes_quantized"] = quantized = quantized_products(executed)
        reach = notes_on_reach("OpenVINO", quantized, len(blocks.quantized))
    executable_info("openvino", plan.precision, model.config, serving, facts).save(folder)
    notes = [f"{name} stays in float: {why}" for name, why in sorted(plan.notes.items())]
    return Lowering(facts, [listed(executed), *reach, *notes])
