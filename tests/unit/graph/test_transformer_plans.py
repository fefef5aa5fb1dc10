"""Lowering follows the precision plan to the letter, or says why it can not."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from optops.compression.quantization import dynamic_int8_plan, float_plan, make_plan
from optops.graph.lowering import LoweringError, lower
from optops.graph.onnx_quantization import saturates
from optops.precision import PrecisionPlan
from optops.runtimes import load_executable

EMBEDDING = "transformer/embedding/embeddings:0"
QUERY = "transformer/decoder_0/self_attention/query/kernel:0"


def test_every_product_of_the_plan_is_quantised_and_no_other(trained, tmp_path):
    folder, _ = trained(seed=0)
    plan = dynamic_int8_plan(folder)
    facts = lower(folder, plan, "onnxruntime", tmp_path).facts
    nodes = [node for name in ("encoder", "step") for node in onnx.load(str(tmp_path / f"{name}.onnx")).graph.node]
    assert sum(node.op_type == "MatMulInteger" for node in nodes) == facts["nodes_quantized"]
    assert not any(node.op_type in {"MatMul", "Gemm"} for node in nodes)
    assert len(plan.parts) == 2 * 6 + 2 * 10 + 1


def test_neighbours_in_different_precisions_are_computed_apart(trained, tmp_path, sentences, pad, unpad):
    folder, reference = trained(seed=0)
    lower(folder, PrecisionPlan("int8", {QUERY: "int8"}), "onnxruntime", tmp_path)
    nodes = onnx.load(str(tmp_path / "step.onnx")).graph.node
    assert [node.op_type for node in nodes].count("MatMulInteger") == 1
    rows = sentences(7, [4, 8])
    outputs = load_executable(tmp_path, 1)({"ids": pad(rows)})
    for row, ids, score in zip(rows, unpad(outputs["ids"]), outputs["scores"], strict=True):
        assert score == pytest.approx(reference.score(row, ids), abs=0.1)


def test_the_output_projection_is_quantised_unless_the_plan_leaves_it_out(trained, tmp_path):
    folder, _ = trained(seed=0)
    plan = dynamic_int8_plan(folder)
    assert EMBEDDING in plan.parts
    without = replace(plan, parts={name: part for name, part in plan.parts.items() if name != EMBEDDING})
    counts = []
    for one in (plan, without):
        lower(folder, one, "onnxruntime", tmp_path)
        nodes = onnx.load(str(tmp_path / "step.onnx")).graph.node
        counts.append(sum(node.op_type in {"MatMul", "Gemm"} for node in nodes))
    assert counts == [0, 1]


@pytest.mark.parametrize(
    ("runtime", "plan", "message"),
    [
        ("onnxruntime", PrecisionPlan("int8"), "names no weight"),
        ("onnxruntime", PrecisionPlan("int8", {QUERY: "int8", "other:0": "int8"}), "other:0"),
        ("onnxruntime", PrecisionPlan("fp16"), "fp16"),
        ("tensorflow+kernels", PrecisionPlan("int8", {QUERY: "int8", "other:0": "int8"}), "other:0"),
        ("tensorflow+kernels", PrecisionPlan("fp16"), "fp16"),
        ("tensorflow+kernels", PrecisionPlan("int8"), "names no weight"),
        ("tensorflow", PrecisionPlan("int8", {QUERY: "int8"}), "not in int8"),
        ("tensorflow", PrecisionPlan("bf16", {"other:0": "bf16"}), "other:0"),
        ("tensorflow", PrecisionPlan("bf16"), "names no weight"),
        ("stock", PrecisionPlan("bf16"), "fp32"),
        ("elsewhere", PrecisionPlan("fp32"), "no lowering to 'elsewhere'"),
    ],
)
def test_a_plan_that_can_not_be_met_is_refused(runtime, plan, message, trained, tmp_path):
    with pytest.raises(LoweringError, match=message):
        lower(trained(seed=0)[0], plan, runtime, tmp_path)


@pytest.mark.parametrize(
    ("serving", "message"),
    [({"max_length": 33}, "32 positions"), ({"beam": 20}, "vocabulary of at least 42"), ({"breadth": 1}, "breadth")],
)
def test_serving_settings_that_do_not_fit_are_refused(serving, message, trained, tmp_path):
    folder, _ = trained(seed=0)
    description = json.loads((folder / "architecture.json").read_text())
    description["serving"] |= serving
    (tmp_path / "architecture.json").write_text(json.dumps(description))
    (tmp_path / "weights.npz").write_bytes((folder / "weights.npz").read_bytes())
    with pytest.raises(LoweringError, match=message):
        lower(tmp_path, PrecisionPlan("fp32"), "onnxruntime", tmp_path / "serving")


def test_bf16_reaches_what_the_plan_names(lowered, trained):
    from optops.runtimes.base import ExecutableInfo

    plan = float_plan(trained(seed=0)[0], "bf16")
    info = ExecutableInfo.load(lowered("tensorflow", "bf16", seed=0)[0])
    assert info.facts["parts_bf16"] == len(plan.parts) == 2 * 6 + 2 * 10 + 1


def test_the_rewritten_graph_is_smaller_than_stock(lowered):
    from optops.runtimes.base import ExecutableInfo

    nodes = [ExecutableInfo.load(lowered(name, seed=0)[0]).facts["nodes"] for name in ("stock", "tensorflow")]
    assert nodes[1] < nodes[0] / 2


def test_only_x86_without_vnni_saturates(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags\t\t: fpu avx2 fma\n")
    assert saturates(cpuinfo)
    cpuinfo.write_text("flags\t\t: fpu avx2 avx512_vnni\n")
    assert not saturates(cpuinfo)
    cpuinfo.write_text("Features\t: asimddp i8mm\n")
    assert not saturates(cpuinfo)
    assert not saturates(tmp_path / "missing")


def test_a_plan_survives_its_file(trained, tmp_path):
    plan = make_plan(trained(seed=0)[0], "int8")
    plan.save(tmp_path / "plan.json")
    assert PrecisionPlan.load(tmp_path / "plan.json") == plan


def test_model_logits_are_those_of_the_reference(trained, sentences):
    from optops.models.base import load_architecture

    folder, reference = trained(seed=0)
    model = load_architecture("transformer").load(folder)
    source, target = sentences(8, [7])[0], [1, 9, 4, 6]
    logits = model({"source": np.array([[*source, 0, 0]], np.int32), "target": np.array([target], np.int32)})
    expected = reference.logits(np.array(target), reference.encode(np.array(source)))
    np.testing.assert_allclose(logits[0], expected, atol=1e-4)
