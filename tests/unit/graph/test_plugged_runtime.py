"""A runtime of one's own gets models by the lowerings that it names itself, without an architecture of one's own."""

import sys

import numpy as np
import pytest

from optops.candidate import Artifact, Candidate
from optops.graph.lowering import LoweringError, lower, lower_serving, lowerings_of, unfit
from optops.models.base import load_architecture
from optops.models.importing import import_saved_model
from optops.models.keras import keras, tf
from optops.precision import PrecisionPlan
from optops.runtimes.base import ExecutableInfo
from optops.testing import check_executable

RUNTIME = '''
"""Weights of one dense layer as an array, multiplied by NumPy."""

from dataclasses import replace

import numpy as np

from optops.graph.lowering import Lowering
from optops.models.base import LoweringFunction, load_architecture
from optops.runtimes.base import ExecutableInfo, Runtime


class Arithmetic(Runtime):
    name = "arithmetic"
    precisions = frozenset({"fp32"})

    def unavailable(self):
        return None

    def lowerings(self):
        return {
            "functional": LoweringFunction("their_runtime:lower_functional", ("fp32",)),
            "imported": LoweringFunction("their_runtime:lower_import", ("fp32",)),
        }

    def load(self, folder, info, threads):
        kernel = np.load(folder / "kernel.npy")

        def execute(inputs):
            info.check(inputs)
            return {"y": inputs["x"] @ kernel}

        return execute


def lower_functional(trainable, plan, folder):
    kernel, = load_architecture("functional").load(trainable).get_weights()
    return written(kernel, folder)


def lower_import(serving, plan, folder):
    import tensorflow as tf

    kernel = tf.saved_model.load(str(serving / "saved_model")).kernel.numpy()
    assert ExecutableInfo.load(serving).runtime == "tensorflow"
    return written(kernel, folder)


def written(kernel, folder):
    np.save(folder / "kernel.npy", kernel)
    shapes = [{name: {"dtype": "float32", "shape": [None, size]}} for name, size in zip("xy", kernel.shape)]
    ExecutableInfo("arithmetic", "fp32", *shapes).save(folder)
    return Lowering({"numbers": kernel.size})
'''
X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture(autouse=True)
def plug_in(tmp_path, monkeypatch):
    """A distribution with the runtime above, for this process and those that it starts."""
    site = tmp_path / "site"
    (site / "theirs-1.dist-info").mkdir(parents=True)
    (site / "theirs-1.dist-info" / "METADATA").write_text("Name: theirs\nVersion: 1\n")
    (site / "theirs-1.dist-info" / "entry_points.txt").write_text(
        "[optops.runtimes]\narithmetic = their_runtime:Arithmetic\n"
    )
    (site / "their_runtime.py").write_text(RUNTIME)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    yield
    sys.modules.pop("their_runtime", None)


def test_a_trained_model_is_lowered_to_it(tmp_path):
    x = keras.Input([4], name="x")
    model = keras.Model(x, keras.layers.Dense(3, use_bias=False, name="y")(x))
    load_architecture("functional").save(model, tmp_path / "trainable", {})
    lower(tmp_path / "trainable", PrecisionPlan("fp32"), "arithmetic", tmp_path / "serving")
    assert ExecutableInfo.load(tmp_path / "serving").runtime == "arithmetic"
    check_executable(tmp_path / "serving", {"x": X})


def test_an_import_is_lowered_to_it(tmp_path):
    module = tf.Module()
    module.kernel = tf.Variable(tf.ones([4, 3]))
    serve = tf.function(lambda x: {"y": x @ module.kernel}, [tf.TensorSpec([None, 4], tf.float32, name="x")])
    tf.saved_model.save(module, str(tmp_path / "theirs"), signatures={"serving_default": serve})
    import_saved_model(tmp_path / "theirs", tmp_path / "imported")
    lowering = lower_serving(tmp_path / "imported", PrecisionPlan("fp32"), "arithmetic", tmp_path / "serving")
    assert lowering.facts == {"numbers": 12}
    check_executable(tmp_path / "serving", {"x": X})


@pytest.mark.parametrize(
    ("architecture", "trainable", "able"),
    [("functional", True, True), ("saved_model", False, True), ("transformer", True, False)],
)
def test_a_plan_has_it_for_the_models_that_it_names_alone(architecture, trainable, able):
    facts = {"architecture": architecture, "precision": "fp32", "runtime": "tensorflow", "trainable": trainable}
    candidate = Candidate("key", "baseline", "train", (), **facts, artifact=Artifact("", ""), metrics={})
    reason = unfit(lowerings_of(candidate), "arithmetic", ["fp32"])
    assert reason is None if able else "has no lowering to 'arithmetic'" in reason


def test_a_precision_that_it_does_not_name_is_refused(tmp_path):
    with pytest.raises(LoweringError, match="an imported model is lowered to arithmetic in fp32, not in int8"):
        lower_serving(tmp_path, PrecisionPlan("int8"), "arithmetic", tmp_path / "serving")
