"""The process of a stage: what TensorFlow is told before it starts."""

import json
import os

import pytest

from optops.stage_spec import RunReference, StageResult, StageSpec
from optops.stages import execution
from optops.stages.__main__ import main


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """Gives a function that starts a stage for a device and returns what it finds in its environment."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    # What is set here is taken back after the test, so what the stage sets is, too.
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "")
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH")

    def start(stage, device):
        found = {}

        def run_stage(spec):
            found.update(os.environ)
            return StageResult(spec.stage, "key")

        monkeypatch.setattr(execution, "run_stage", run_stage)
        spec = StageSpec(stage, {"target": {"device": device}}, RunReference("", "experiment", "run", "label"))
        (tmp_path / "spec.json").write_text(json.dumps(spec.to_json()))
        assert main([stage, "--spec", str(tmp_path / "spec.json"), "--result", str(tmp_path / "result.json")]) == 0
        return found["CUDA_VISIBLE_DEVICES"], found["TF_FORCE_GPU_ALLOW_GROWTH"]

    return start


@pytest.mark.parametrize(
    ("stage", "device", "visible"), [("benchmark", "cpu", "-1"), ("benchmark", "gpu", "1"), ("train", "cpu", "1")]
)
def test_only_timings_for_the_cpu_see_no_gpu_and_all_others_share_it(seen, stage, device, visible):
    assert seen(stage, device) == (visible, "true")
