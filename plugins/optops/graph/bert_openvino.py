"""Lowers a BERT to OpenVINO, which reads the graph that is made for ONNX Runtime and has fused kernels for it too."""

from pathlib import Path

import onnx

from optops.graph.bert_onnx import classifier_graph
from optops.graph.bert_serving import executable_info, load_trained
from optops.graph.functional_openvino import check_cpu, executed_layers
from optops.graph.lowering import Lowering, check_plan
from optops.models.bert.weights import read_weights
from optops.precision import PrecisionPlan
from optops.runtimes.onnxruntime import MODEL


def lower(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering:
    """Writes `model.onnx`, which OpenVINO compiles when it is loaded.

    Not in int8: an int8 plan of a BERT gives activations their scale at run time, which OpenVINO does not do in
    integers on every CPU.

    Raises:
        LoweringError: If the plan is in bf16 and this CPU does not compute in it.
    """
    check_cpu(plan)
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
