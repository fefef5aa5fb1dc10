"""Weights that were packed by an older version are read for ever, and by the oldest TensorFlow that is supported."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from optops.kernels import PackedTranslator

LENGTHS, LIMITS = [5, 17, 1, 33], [12, 40, 9, 3]
KEPT = sorted((Path(__file__).parent / "data").glob("translator_version_*.npz"))
OLDEST = os.environ.get("OPTOPS_OLDEST_PYTHON")
SERVE = """
import sys, numpy as np, tensorflow as tf
operators = tf.load_op_library(sys.argv[1])
arrays = np.load(sys.argv[2])
class Served(tf.Module):
    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(arrays["block"])
    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def serve(self, ids):
        return operators.OptopsTranslate(
            source=ids, lengths=[5, 17, 1, 33], limits=[12, 40, 9, 3], weights=self.weights, beam=3, length_penalty=0.6
        )
tf.saved_model.save(Served(), sys.argv[3])
found = tf.saved_model.load(sys.argv[3])
ids, _, scores = found.serve(tf.constant(arrays["ids"]))
np.savez(sys.argv[4], ids=ids, scores=scores, version=tf.__version__)
try:
    found.serve(tf.constant(arrays["ids"] + 500))
except tf.errors.InvalidArgumentError:
    sys.exit(0)
sys.exit("an id that is not there was taken")
"""


TRANSLATE = """
from optops.kernels import PackedTranslator
translator = PackedTranslator.from_bytes(arrays["block"])
result = translator.translate(arrays["ids"], arrays["lengths"], arrays["limits"], beam=3)
found |= {"ids": result.ids, "scores": result.scores}
"""


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_block_of_every_version_translates_as_it_did(path, run_under):
    with np.load(path) as kept:
        # Attention is in fp32 there; elsewhere it may be in bfloat16, and choose other ids of random weights.
        arrays = {"block": kept["block"], "ids": kept["ids"], "lengths": LENGTHS, "limits": LIMITS}
        found = run_under("generic", TRANSLATE, arrays)
        np.testing.assert_array_equal(found["ids"], kept["found"])
        # A single int8 value that rounds the other way moves a score by 1e-3.
        np.testing.assert_allclose(found["scores"], kept["scores"], atol=2e-3)


def test_a_block_is_kept_of_the_version_that_is_written_now():
    with np.load(KEPT[-1]) as kept:
        translator = PackedTranslator.from_bytes(kept["block"])
    version = int.from_bytes(translator.to_bytes()[8:12].tobytes(), "little")
    assert KEPT[-1].stem == f"translator_version_{version}"


@pytest.mark.skipif(not OLDEST, reason="`make test-oldest` runs it")
def test_the_oldest_tensorflow_gives_the_same_bits_from_the_same_library(tmp_path):
    from optops.kernels.tensorflow import LIBRARY

    command = [OLDEST, "-c", SERVE, LIBRARY, KEPT[-1], tmp_path / "model", tmp_path / "found.npz"]
    subprocess.run(command, check=True)
    with np.load(KEPT[-1]) as kept, np.load(tmp_path / "found.npz") as found:
        expected = PackedTranslator.from_bytes(kept["block"]).translate(kept["ids"], LENGTHS, LIMITS, beam=3)
        assert str(found["version"]).startswith("2.16.")
        np.testing.assert_array_equal(found["ids"], expected.ids)
        np.testing.assert_array_equal(found["scores"], expected.scores)
