"""Lowers a BERT to OpenVINO, which reads the graph that is made for ONNX Runtime and has fused kernels for it too."""

from pathlib import Path

import onnx

from optops.graph.bert_onnx import classifier_graph
from optops.graph.bert_serving import check_plan, executable_info, load_trained
from optops.graph.bert_weights import read_weights
from optops.graph.functional_openvino import executed_layers
from optops.graph.lowering import Lowering, LoweringError
from optops.precision import PrecisionPlan
from optops.runtimes.onnxruntime import MODEL
from optops.runtimes.openvino import has_bf16

INT8_REASON = (
    "an int8 plan of a BERT gives activations their scale at run time, which OpenVINO does not do in integers on every "
    "CPU; take int8 in onnxruntime or tensorflow+kernels"
)


def lower(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes `model.onnx`, which OpenVINO compiles when it is loaded.

    Raises:
        LoweringError: If the plan asks for int8, or for bf16 on a CPU without it.
    """
    if plan.precision == "int8":
        raise LoweringError(f"OpenVINO runs BERT in fp32 and bf16, not in int8: {INT8_REASON}")
    if plan.precision not in ("fp32", "bf16") or (plan.precision == "bf16" and not has_bf16()):
        raise LoweringError(f"OpenVINO runs BERT on this CPU in fp32, not in {plan.precision}")
    model, serving = load_trained(trainable)
    check_plan(plan, model)
    # Its products stay whole: in bf16 OpenVINO itself says which operations keep fp32.
    blocks = classifier_graph(read_weights(model), PrecisionPlan("fp32"))
    onnx.save(blocks.graph.model(), str(folder / MODEL))
    executed = executed_layers(folder / MODEL, plan.precision)
    facts: dict[str, float | str] = {"nodes": sum(executed.values())}
    executable_info("openvino", plan.precision, model.config, serving, facts).save(folder)
    listed = ", ".join(f"{count} {kind} in {precision}" for (kind, precision), count in executed.most_common())
    return Lowering(facts, [f"executed are {listed}"])
