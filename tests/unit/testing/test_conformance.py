"""The conformance suites against optops' own parts, and against parts that break a promise."""

import json

import numpy as np
import pytest

from optops.compression.quantization import make_plan
from optops.graph.lowering import lower, lower_serving
from optops.models.base import load_architecture
from optops.models.importing import import_saved_model
from optops.precision import PrecisionPlan
from optops.runtimes.base import EXECUTABLE_FILE
from optops.testing import check_architecture, check_executable

CONFIG = {
    "vocabulary": 40,
    "width": 16,
    "heads": 2,
    "feed_forward": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "max_positions": 24,
}
SERVING = {"beam": 2, "max_length": 24}
INPUTS = {"ids": np.array([[5, 9, 11, 2], [7, 2, 0, 0]], np.int32)}


@pytest.fixture(scope="module")
def trainable(tmp_path_factory):
    from optops.models.keras import keras

    folder = tmp_path_factory.mktemp("model")
    keras.utils.set_random_seed(3)
    architecture = load_architecture("transformer")
    architecture.save(architecture.build(CONFIG), folder, SERVING)
    return folder


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [
        ("stock", "fp32"),
        ("tensorflow", "fp32"),
        ("tensorflow+kernels", "int8"),
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8"),
    ],
)
def test_every_executable_of_the_transformer_conforms(trainable, tmp_path, runtime, precision):
    lower(trainable, make_plan(trainable, precision), runtime, tmp_path / "serving")
    check_executable(tmp_path / "serving", INPUTS)


def test_the_transformer_conforms(tmp_path):
    check_architecture(load_architecture("transformer"), CONFIG, tmp_path / "model")


def test_an_imported_saved_model_conforms_and_is_lowered(tmp_path):
    from optops.models.keras import tf

    class Doubler(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(np.eye(8, dtype=np.float32) * 2)

        @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, name="x")])
        def serve(self, x):
            return {"y": tf.matmul(x, self.weights)}

    module = Doubler()
    tf.saved_model.save(module, str(tmp_path / "import"), signatures={"serving_default": module.serve})
    import_saved_model(tmp_path / "import", tmp_path / "serving")
    inputs = {"x": np.arange(16, dtype=np.float32).reshape(2, 8)}
    for runtime in ("stock", "tensorflow", "onnxruntime"):
        lower_serving(tmp_path / "serving", PrecisionPlan("fp32"), runtime, tmp_path / runtime)
        check_executable(tmp_path / runtime, inputs)
    int8 = lower_serving(tmp_path / "serving", PrecisionPlan("int8"), "onnxruntime", tmp_path / "int8")
    assert int8.facts["nodes_quantized"] == 1


def test_a_model_of_texts_conforms(tmp_path):
    from optops.models.keras import tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def serve(text):
        return {"upper": tf.strings.upper(text, "utf-8"), "length": tf.strings.length(text)}

    tf.saved_model.save(tf.Module(), str(tmp_path / "import"), signatures={"serving_default": serve})
    import_saved_model(tmp_path / "import", tmp_path / "serving")
    check_executable(tmp_path / "serving", {"text": np.array(["grün", "a longer text"])})


def test_an_executable_that_misdescribes_itself_does_not_conform(trainable, tmp_path):
    lower(trainable, PrecisionPlan("fp32"), "onnxruntime", tmp_path / "serving")
    path = tmp_path / "serving" / EXECUTABLE_FILE
    described = json.loads(path.read_text(encoding="utf-8"))
    described["outputs"]["scores"]["dtype"] = "float64"
    path.write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(AssertionError, match="'scores' is float32, not float64"):
        check_executable(tmp_path / "serving", INPUTS)
