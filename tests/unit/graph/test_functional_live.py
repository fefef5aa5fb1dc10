import numpy as np
import pytest

from optops.graph.functional_live import live
from optops.models.keras import keras
from optops.runtimes.base import InvalidInputError


def test_a_live_model_follows_its_variables_and_checks_its_inputs():
    one, other = keras.Input((None, 3), name="one"), keras.Input((3,), name="other")
    summed = keras.layers.Dense(2, name="summed")(one)
    model = keras.Model([one, other], [summed, keras.layers.Dense(4, name="dense")(other)])
    run = live(model, {"inputs": {"other": {"minimum": 0}}})
    assert run.info.inputs["other"] == {"dtype": "float32", "shape": [None, 3], "minimum": 0}
    assert run.info.outputs["summed"] == {"dtype": "float32", "shape": [None, None, 2]}
    inputs = {"other": np.ones((5, 3), np.float32), "one": np.ones((5, 7, 3), np.float32)}
    before = run(inputs)
    np.testing.assert_allclose(before["summed"], model([inputs["one"], inputs["other"]])[0], rtol=1e-6)
    kernel = model.get_layer("dense").kernel
    kernel.assign(kernel * 2)
    np.testing.assert_allclose(run(inputs)["dense"], 2 * before["dense"], rtol=1e-5)
    with pytest.raises(InvalidInputError, match="other"):
        run({"one": inputs["one"]})
    with pytest.raises(InvalidInputError, match="the smallest value allowed is 0"):
        run({**inputs, "other": -inputs["other"]})
