"""Encoders agree with OpenVINO's of the same weights, through TensorFlow's plain operations."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino", reason="the extra `peers` brings it")
BENCH = Path(__file__).parents[3] / "kernels" / "bench"


def test_full_precision_gives_the_same_states(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    from encoders import Bench, Size, load_openvino, load_ours

    bench = Bench(tmp_path, Size("test", 256, 512, 2), seconds=1)
    inputs = dict(np.load(bench.inputs(3)[0]))
    ours = load_ours(bench.ours("fp32"), 2)(inputs)["states"]
    theirs = load_openvino(bench.openvino("fp32"), 2)(inputs)["states"]
    np.testing.assert_allclose(ours, theirs, atol=2e-5)
