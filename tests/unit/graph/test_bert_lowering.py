"""Every executable of a BERT or ALBERT computes what the reference does, whatever the batch it comes in."""

import numpy as np
import pytest
from tests.unit.graph.bert_reference import ReferenceBert

from optops.graph.bert_calibration import make_plan
from optops.graph.lowering import LoweringError, lower
from optops.models.base import load_architecture
from optops.models.bert.config import BertConfig
from optops.models.keras import keras
from optops.precision import PrecisionPlan
from optops.runtimes import load_executable
from optops.runtimes.base import InvalidInputError
from optops.testing import check_executable

SIZES = {"vocabulary": 60, "classes": 3, "width": 32, "heads": 4, "feed_forward": 64, "layers": 2, "max_positions": 24}
MODELS = {
    "bert": {},
    "bert by the mean": {"pooling": "mean", "activation": "gelu"},
    "albert": {"layers": 3, "groups": 1, "embedding_width": 16},
    "albert of relu": {"layers": 3, "groups": 1, "embedding_width": 16, "activation": "relu"},
}
SERVING = {"max_length": 16}
SEPARATOR = 3
LENGTHS = [5, 16, 2, 9, 3, 12]
# Largest difference of a probability from the exact one.
CLOSE = {"fp32": 1e-5, "bf16": 0.03, "int8": 0.05}
EXECUTABLES = [
    ("stock", "fp32"),
    ("tensorflow", "fp32"),
    ("tensorflow", "bf16"),
    ("tensorflow+kernels", "fp32"),
    ("tensorflow+kernels", "bf16"),
    ("tensorflow+kernels", "int8"),
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Gives folder and reference of a model whose weights are all far from their starting values."""
    made = {}

    def of(name):
        if name not in made:
            architecture = load_architecture("bert")
            keras.utils.set_random_seed(5)
            model = architecture.build(BertConfig.uniform(**{**SIZES, **MODELS[name]}).to_json())
            random = np.random.default_rng(7)
            for weight in model.weights:
                weight.assign(weight.numpy() + random.normal(scale=0.1, size=weight.shape))
            folder = tmp_path_factory.mktemp("trained")
            architecture.save(model, folder, SERVING)
            arrays = {weight.name: weight.numpy() for weight in model.weights}
            made[name] = folder, ReferenceBert(arrays, architecture.config_of(model))
        return made[name]

    return of


@pytest.fixture(scope="module")
def executable(trained, tmp_path_factory):
    made = {}

    def of(name, runtime, precision):
        key = (name, runtime, precision)
        if key not in made:
            folder = tmp_path_factory.mktemp("lowered") / "serving"
            lowering = lower(trained(name)[0], make_plan(trained(name)[0], precision, calls), runtime, folder)
            made[key] = load_executable(folder, 1), lowering, folder
        return made[key]

    return of


def sentences(seed, lengths):
    random = np.random.default_rng(seed)
    return [[2, *random.integers(5, 60, length - 2).tolist(), SEPARATOR] for length in lengths]


def pad(rows, width=0):
    padded = np.zeros((len(rows), max(width, *map(len, rows))), np.int32)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


def calls():
    return ({"ids": pad([row])} for row in sentences(9, [5, 12, 16, 7, 3, 10] * 4))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("runtime", "precision"), EXECUTABLES)
def test_probabilities_are_those_of_the_reference(model, runtime, precision, trained, executable):
    rows = sentences(1, LENGTHS)
    found = executable(model, runtime, precision)[0]({"ids": pad(rows)})["probabilities"]
    expected = [trained(model)[1].probabilities(row) for row in rows]
    np.testing.assert_allclose(found, expected, atol=CLOSE[precision])
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("runtime", ["stock", "tensorflow", "tensorflow+kernels", "onnxruntime", "openvino"])
def test_neither_padding_nor_order_nor_neighbours_change_a_probability(model, runtime, executable):
    classify = executable(model, runtime, "fp32")[0]
    rows = sentences(2, LENGTHS)
    together = classify({"ids": pad(rows)})["probabilities"]
    turned = classify({"ids": pad(rows[::-1], width=16)})["probabilities"][::-1]
    alone = [classify({"ids": pad([row])})["probabilities"][0] for row in rows]
    np.testing.assert_allclose(together, turned, atol=1e-6)
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "runtime", "precision"),
    [
        ("bert", "stock", "fp32"),
        ("bert", "tensorflow", "fp32"),
        ("albert", "tensorflow+kernels", "int8"),
        ("albert", "onnxruntime", "int8"),
        ("albert", "openvino", "fp32"),
        ("albert", "openvino", "int8"),
    ],
)
def test_every_executable_conforms(model, runtime, precision, executable):
    check_executable(executable(model, runtime, precision)[2], {"ids": pad(sentences(3, [6, 4]))})


@pytest.mark.parametrize(("model", "products"), [("bert", 2 * 4 + 2), ("albert", 3 * 4 + 3)])
def test_int8_reaches_every_product_of_the_onnx_graph(model, products, executable):
    import onnx

    _, lowering, folder = executable(model, "onnxruntime", "int8")
    nodes = onnx.load(str(folder / "model.onnx")).graph.node
    assert lowering.facts["nodes_quantized"] == products
    assert sum(node.op_type == "MatMulInteger" for node in nodes) == products
    assert not [node.name for node in nodes if node.op_type == "MatMul"]
    assert sum(node.op_type == "MultiHeadAttention" for node in nodes) == MODELS[model].get("layers", 2)


def test_openvino_has_one_kernel_for_every_attention(executable):
    layers = executable("bert", "openvino", "fp32")[1].notes[0]
    # The products are those of two layers, pooler and classifier; scores and mixed values are inside the subgraphs.
    assert "10 FullyConnected in f32" in layers
    assert "2 Subgraph in f32" in layers
    assert "5 MVN in f32" in layers
    assert "MatMul" not in layers


@pytest.mark.parametrize(("model", "products"), [("bert", 2 * 4 + 2), ("albert", 3 * 4 + 3)])
def test_openvino_executes_every_product_in_int8(model, products, executable):
    lowering = executable(model, "openvino", "int8")[1]
    assert lowering.facts["nodes_quantized"] >= products
    assert "FullyConnected in f32" not in lowering.notes[0]


def test_openvino_refuses_int8_without_ranges_and_says_what_gives_them(trained, tmp_path):
    plan = make_plan(trained("bert")[0], "int8")
    with pytest.raises(
        LoweringError, match=r"range of what .*classifier/kernel.* takes; make the plan with calibration"
    ):
        lower(trained("bert")[0], plan, "openvino", tmp_path)


def test_a_layer_that_runs_several_times_is_stored_once(trained, tmp_path):
    stored = {"tensorflow": "fp32", "tensorflow+kernels": "fp32", "onnxruntime": "fp32", "openvino": "int8"}
    sizes = {}
    for layers in (1, 6):
        config = BertConfig.uniform(**{**SIZES, **MODELS["albert"], "layers": layers, "width": 256})
        architecture = load_architecture("bert")
        architecture.save(architecture.build(config.to_json()), tmp_path / f"{layers}", SERVING)
        for runtime, precision in stored.items():
            folder = tmp_path / f"{layers} {runtime}"
            lower(tmp_path / f"{layers}", make_plan(tmp_path / f"{layers}", precision, calls), runtime, folder)
            sizes[runtime, layers] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    for runtime in stored:
        assert sizes[runtime, 6] < 1.3 * sizes[runtime, 1], runtime


@pytest.mark.parametrize("runtime", ["stock", "tensorflow", "tensorflow+kernels", "onnxruntime", "openvino"])
def test_bad_ids_are_refused_by_name(runtime, executable):
    classify = executable("bert", runtime, "fp32")[0]
    row = sentences(4, [6])[0]
    for ids, reason in (
        ([*row[:-1], 60], "the largest value allowed is 59"),
        ([*row[:-1], 7], "must be closed by the end id 3"),
        ([*row[:-1]] * 4 + [SEPARATOR], "at most 16 is served"),
        ([2, 0, 7, SEPARATOR], "ids after padding"),
    ):
        with pytest.raises(InvalidInputError, match=rf"'ids'.*{reason}"):
            classify({"ids": np.array([ids], np.int32)})


@pytest.mark.parametrize("runtime", ["stock", "tensorflow", "onnxruntime", "openvino"])
def test_a_precision_that_a_runtime_lacks_is_refused(runtime, trained, tmp_path):
    with pytest.raises(LoweringError, match="not in fp16"):
        lower(trained("bert")[0], PrecisionPlan("fp16"), runtime, tmp_path)


@pytest.mark.parametrize("runtime", ["tensorflow", "tensorflow+kernels", "onnxruntime", "openvino"])
def test_a_plan_for_weights_that_are_not_there_is_refused(runtime, trained, tmp_path):
    plan = PrecisionPlan("fp32", {"bert/encoder_9/feed_forward/expand/kernel:0": "fp32"})
    with pytest.raises(LoweringError, match="encoder_9/feed_forward/expand/kernel:0, which this model does not have"):
        lower(trained("bert")[0], plan, runtime, tmp_path)


def test_a_length_beyond_the_positions_is_refused(trained, tmp_path):
    architecture = load_architecture("bert")
    architecture.save(architecture.load(trained("bert")[0]), tmp_path / "model", {"max_length": 25})
    with pytest.raises(LoweringError, match="max_length is 25; the model has 24 positions"):
        lower(tmp_path / "model", PrecisionPlan("fp32"), "onnxruntime", tmp_path / "serving")
